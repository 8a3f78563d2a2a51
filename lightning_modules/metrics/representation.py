"""How far training moved a model: distance of weights, similarity of hidden states."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def linear_cka(first_ND: Tensor, second_NE: Tensor) -> Tensor:
    """Linear centred kernel alignment of two representations of the same N inputs (Kornblith et al., arXiv:1905.00414).

    |Y^T X|^2 / (|X^T X| |Y^T Y|) in Frobenius norms, columns centred: 1 if one is the other rotated and scaled, near 0 if they
    are unrelated and N is large against D and E; with few inputs it is biased upwards.

    Args:
        first_ND: N inputs as vectors of D features.
        second_NE: the same inputs, in the same order; E may differ from D.

    Returns:
        A scalar in float64, within 0 and 1; nan if one of the two does not vary.

    Raises:
        ValueError: the numbers of inputs differ.
    """
    if first_ND.shape[0] != second_NE.shape[0]:
        raise ValueError(f"linear_cka: {first_ND.shape[0]} inputs beside {second_NE.shape[0]}; give the same, in one order.")
    x_ND, y_NE = (of.double() - of.double().mean(dim=0) for of in (first_ND, second_NE))
    return (y_NE.T @ x_ND).square().sum() / ((x_ND.T @ x_ND).norm() * (y_NE.T @ y_NE).norm())


def relative_distance(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> Tensor:
    """Euclidean distance of all weights together, as a share of the length of `start`; a scalar in float64.

    Raises:
        ValueError: the two have other names or shapes.
    """
    if {name: of.shape for name, of in start.items()} != {name: of.shape for name, of in end.items()}:
        raise ValueError(
            "relative_distance: the two models differ in names or shapes of weights; compare a stage with its start."
        )
    return _length(end[name].double() - of.double() for name, of in start.items()) / _length(of.double() for of in start.values())


def _length(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack([part.square().sum() for part in parts]).sum().sqrt()
