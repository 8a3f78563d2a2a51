"""Linear CKA and distance of weights: against the definition by kernels, invariances, and values by hand."""

import pytest
import torch

from lightning_modules.metrics import linear_cka, relative_distance


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_cka_is_the_alignment_of_centred_kernels():
    """Oracle: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with HSIC(K, L) = tr(K H L H), entry by entry."""
    x, y = drawn(6, 3), drawn(6, 4, seed=1)
    n = 6

    def centred(kernel):
        means, grand = kernel.mean(dim=0), kernel.mean()
        return [[float(kernel[i, j] - means[i] - means[j] + grand) for j in range(n)] for i in range(n)]

    def hsic(a, b):
        return sum(a[i][j] * b[j][i] for i in range(n) for j in range(n))

    kc, lc = centred(x @ x.T), centred(y @ y.T)
    assert linear_cka(x, y).item() == pytest.approx(hsic(kc, lc) / (hsic(kc, kc) * hsic(lc, lc)) ** 0.5)


def test_cka_by_hand():
    """Centred, (1, 0, -1) and (1, -2, 1) have no product; (1, 0, -1) and (2, -1, -1): 3^2 / (2 6)."""
    one = torch.tensor([[1.0], [0.0], [-1.0]])
    assert linear_cka(one, torch.tensor([[4.0], [1.0], [4.0]])).item() == pytest.approx(0)
    assert linear_cka(one, torch.tensor([[7.0], [4.0], [4.0]])).item() == pytest.approx(9 / 12)


def test_cka_sees_no_rotation_scale_or_shift_and_sees_a_stretch():
    x = drawn(20, 5)
    turned = torch.linalg.qr(drawn(5, 5, seed=1)).Q
    assert linear_cka(x, 3 * x @ turned + 7).item() == pytest.approx(1)
    assert linear_cka(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1], dtype=torch.float64))).item() < 0.9


def test_cka_of_what_does_not_vary_is_nan_and_other_inputs_are_refused():
    assert linear_cka(torch.ones(4, 2), drawn(4, 2)).isnan()
    with pytest.raises(ValueError, match="4 inputs beside 5"):
        linear_cka(drawn(4, 2), drawn(5, 2))


def test_the_distance_of_weights_by_hand():
    """Moved by (0, 3) and (4): 5, of a length of sqrt(9 + 16 + 144) = 13."""
    start = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[12.0]])}
    end = {"a": torch.tensor([3.0, 1.0]), "b": torch.tensor([[8.0]])}
    assert relative_distance(start, end).item() == pytest.approx(5 / 13)
    with pytest.raises(ValueError, match="names or shapes"):
        relative_distance(start, {"a": torch.zeros(3), "b": end["b"]})
