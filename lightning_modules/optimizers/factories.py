"""Optimiser factories: each turns a model's parameters into one `torch.optim.Optimizer`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lightning_modules.optimizers.muon import BatchedMuon


class OptimizerFactory(ABC):
    """Builds the optimiser of a model. Put a new subclass in a separate file and name it by `class_path`."""

    @abstractmethod
    def __call__(self, model: nn.Module) -> Optimizer:
        """Return an optimiser over all parameters of `model` that require gradients."""


class AdamW(OptimizerFactory):
    """AdamW; weight decay on matrices only (arXiv:1711.05101).

    Args:
        lr: the peak rate, which the schedule scales.
        betas: decay of the moment estimates.
        weight_decay: of matrices.
        eps: added to the denominator.
        fused: update each weight in one pass over memory.
    """

    def __init__(
        self, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1, eps: float = 1e-8,
        fused: bool = True,
    ) -> None:  # fmt: skip
        self.lr, self.betas, self.weight_decay, self.eps, self.fused = lr, betas, weight_decay, eps, fused

    def __call__(self, model: nn.Module) -> Optimizer:
        """Return torch.optim.AdamW with one group for matrices and one, without decay, for the rest."""
        matrices, rest = _split(model, lambda p: p.ndim >= 2)
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        filled = [g for g in groups if g["params"]]
        optimizer = torch.optim.AdamW(filled, lr=self.lr, betas=self.betas, eps=self.eps, fused=self.fused)
        # if the fused step undid the gradient scaling of fp16, Lightning would refuse to clip gradients
        optimizer._step_supports_amp_scaling = False
        return optimizer


class Muon(OptimizerFactory):
    """Muon for linear layers inside the blocks, AdamW for all else (kellerjordan.github.io/posts/muon).

    All else: embeddings, heads (a critic's, too), biases, norms, and what is no matrix of a linear layer, such as experts in one
    tensor, routers, convolutions and the decay rates of state space models.

    Args:
        lr: peak rate of Muon, which the schedule scales.
        adamw_lr: peak rate of AdamW.
        momentum: of Muon.
        weight_decay: of Muon's matrices.
        betas: of AdamW.
    """

    def __init__(
        self, lr: float = 0.02, adamw_lr: float = 3e-3, momentum: float = 0.95, weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:  # fmt: skip
        self.lr, self.adamw_lr, self.momentum, self.weight_decay, self.betas = lr, adamw_lr, momentum, weight_decay, betas

    def __call__(self, model: nn.Module) -> Optimizer:
        """Return one optimiser with a parameter group for Muon and one for AdamW, of those that have parameters."""
        inside = _linear_weights(model) - _tables(model)
        matrices, rest = _split(model, inside.__contains__)
        parts: list[Optimizer] = []  # of adapters, all of which are matrices, there is no rest
        if matrices:
            parts.append(BatchedMuon(matrices, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay))
        if rest:
            parts.append(torch.optim.AdamW(rest, lr=self.adamw_lr, betas=self.betas, weight_decay=0.0))
        return Chained(*parts)


class Chained(Optimizer):
    """Several optimisers over disjoint parameters as one, so that `global_step` counts an update once."""

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        first = 0
        for part in self.parts:
            last = first + len(part.param_groups)
            part.param_groups, part.state, first = self.param_groups[first:last], self.state, last
            if isinstance(part, Chained):
                part._share()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, which the parts share."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update the parameters of every part once; the closure runs once."""
        first, *others = self.parts
        loss = first.step(closure)
        for part in others:
            part.step()
        return loss


def _split(model: nn.Module, first: Callable[[nn.Parameter], bool]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [p for p in trained if first(p)], [p for p in trained if not first(p)]


def _linear_weights(model: nn.Module) -> set[nn.Parameter]:
    """Matrices of linear layers, without those of one row, which are vectors: the head of a critic."""
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, Conv1D))]
    return {layer.weight for layer in layers if min(layer.weight.shape) > 1}


def _tables(model: nn.Module) -> set[nn.Parameter]:
    """Weights of embeddings and output layers, whose rows belong to tokens or positions."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    models = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    heads = [head for one in models if (head := one.get_output_embeddings()) is not None]
    return {parameter for module in (*tables, *heads) for parameter in module.parameters(recurse=False)}


def number_by_model(state: dict[str, Any], optimizer: Optimizer, model: nn.Module) -> dict[str, Any]:
    """Number the parameters of a saved state by their place in the model instead of in the optimiser's groups.

    torch restores either; sharding a saved state (FSDP2) needs the model's numbers.

    Args:
        state: `optimizer.state_dict()`.
        optimizer: its optimiser.
        model: the model of the optimiser.
    """
    place = {parameter: number for number, parameter in enumerate(model.parameters())}
    places = [place[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    old = [number for group in state["param_groups"] for number in group["params"]]
    new = dict(zip(old, places, strict=True))
    groups = [{**group, "params": [new[number] for number in group["params"]]} for group in state["param_groups"]]
    return {"state": {new[number]: values for number, values in state["state"].items()}, "param_groups": groups}
