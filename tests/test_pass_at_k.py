"""pass@k against enumeration of subsets."""

from itertools import combinations, product

import pytest
import torch

from lightning_modules.metrics import pass_at_k


def oracle_by_enumeration(passed: list[bool], k: int) -> float:
    """The definition, over every k-subset; exponential, fine for n <= 8."""
    subsets = list(combinations(passed, k))
    return sum(map(any, subsets)) / len(subsets)


@pytest.mark.parametrize(("c", "k"), [*product(range(6), (1, 2, 5))])
def test_pass_at_k_equals_subset_enumeration(c, k):
    expected = oracle_by_enumeration([True] * c + [False] * (5 - c), k)
    assert pass_at_k(torch.tensor([c]), n=5, k=k).item() == pytest.approx(expected)


def test_k_above_n_is_refused():
    with pytest.raises(ValueError, match="k=9, n=8"):
        pass_at_k(torch.tensor([1]), n=8, k=9)
