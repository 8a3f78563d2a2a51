"""The sampling engine: prompts in, completions with log-probabilities out. See docs/rollout.md.

An engine is a class: `sampling.engine` names one of ENGINES, or gives the class path of another. It is made for a model at its
first rollout, and lives as long as the model, so what it holds (graphs, a copy of the weights) serves the next rollout too.
Not here: the engines (native.py, by_generate.py, vllm_engine.py), the draw of a token (sampling.py).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pydoc import locate
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.models.language_model import longest_text
from lightning_modules.models.probe import differs, once, plain_logits, texts
from lightning_modules.rollout.sampling import Completions, Randomness, Request, SamplingParams, uniform_points

APART = "transformers, prompt by prompt"
HERE = "lightning_modules.rollout"
ENGINES = {
    "native": f"{HERE}.native.Native", "transformers": f"{HERE}.by_generate.Generate", APART: f"{HERE}.by_generate.GenerateApart",
    "vllm": f"{HERE}.vllm_engine.VLLM",
}  # fmt: skip


class Engine(ABC):
    """Draws completions from one model, whose weights may be others at each call.

    It must hold no reference to the model itself, which owns it.
    """

    def refuses(self, model: PreTrainedModel, longest: int) -> str | None:
        """Why it cannot sample texts of up to `longest` tokens from `model`; None: it may, as a trial will show."""
        return None

    @abstractmethod
    def sample(self, model: PreTrainedModel, request: Request, *, share: bool = False) -> Completions:
        """Sample a request from the weights that `model` has now.

        Args:
            model: in the mode (train or eval) and precision (autocast) to sample in; whole weights, even if it is sharded.
            request: prompts and settings.
            share: many samples of a prompt may agree: compute shared prefixes once, if the engine can.
        """

    def release(self) -> None:
        """Give back the memory that it keeps for further requests, as an evaluation has ended and training may need it."""
        return None


_MADE: WeakKeyDictionary[PreTrainedModel, dict[str, Engine]] = WeakKeyDictionary()


@cache
def engine_class(name: str) -> type[Engine]:
    """The engine of a name or class path.

    Raises:
        ValueError: there is none.
    """
    found = locate(ENGINES.get(name, name))
    if not (isinstance(found, type) and issubclass(found, Engine)):
        raise ValueError(f"`sampling.engine`: {name!r} is neither one of {sorted(ENGINES)} nor the class path of an Engine.")
    return found


def engine_of(model: PreTrainedModel, name: str) -> Engine:
    """The engine of a model, the same one at every call."""
    made = _MADE.setdefault(model, {})
    if name not in made:
        made[name] = engine_class(name)()
    return made[name]


def release(model: PreTrainedModel) -> None:
    """Release all engines of a model."""
    for engine in _MADE.get(model, {}).values():
        engine.release()


@torch.inference_mode()
def sample(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group_size: int, params: SamplingParams, *,
    stop_ids: Sequence[int], pad_id: int, generator: Randomness = None, limits: Sequence[int] | None = None, share: bool = False,
) -> Completions:  # fmt: skip
    """Sample `group_size` completions for each prompt.

    Args:
        model: a causal LM; used in the mode (train or eval) it is in.
        prompts: B token lists, none empty.
        group_size: G.
        params: temperature, lengths.
        stop_ids: tokens that end a completion.
        pad_id: padding.
        generator: source of randomness, or one for each prompt, so that its completions do not depend on other prompts; None:
            torch's.
        limits: maximum tokens of each of the N completions, up to `max_new_tokens`; None: `max_new_tokens`.
        share: compute shared prefixes once on a GPU too: for many samples of a confident model. On a CPU they always are.

    Returns:
        Completions in the order of the prompts, G side by side.

    Raises:
        ValueError: an empty prompt, one that leaves no position for a completion, limits out of range, or a model from which
            the engine cannot sample.
    """
    device = model.device
    limit_N = torch.tensor([params.max_new_tokens] * len(prompts) * group_size if limits is None else limits)
    request = Request(
        list(prompts), group_size, params, torch.tensor(stop_ids, dtype=torch.int64, device=device), pad_id,
        uniform_points(len(prompts), group_size, params, generator).to(device), within_model(limit_N, prompts, model).to(device),
    )  # fmt: skip
    longest = max(map(len, prompts)) + int(request.limit_N.max())
    return engine_of(model, chosen_engine(model, params.engine, longest, params.max_rows)).sample(model, request, share=share)


def within_model(limit_N: Tensor, prompts: Sequence[Sequence[int]], model: PreTrainedModel) -> Tensor:
    """[N] limits of completions, cut where the model has no further positions.

    Raises:
        ValueError: a prompt leaves none.
    """
    longest = longest_text(model.config)
    if longest is None or not prompts:
        return limit_N
    room_B = longest - torch.tensor([len(prompt) for prompt in prompts])
    if int(room_B.min()) < 1:
        raise ValueError(
            f"a prompt of {longest - int(room_B.min())} tokens leaves no position for a completion, as the model has {longest}; "
            "sample shorter problems, or set `max_position_embeddings` of a model without learned positions."
        )
    return torch.minimum(limit_N, room_B.repeat_interleave(len(limit_N) // len(prompts)))


def chosen_engine(model: PreTrainedModel, engine: str, longest: int = 0, max_rows: int = SamplingParams.max_rows) -> str:
    """`engine` for texts of up to `longest` tokens, or, instead of `native`, the next one that can sample them.

    max_rows: vLLM, which is built for its trial, is built for so many texts side by side.

    Raises:
        ValueError: none can.
    """
    kind = model.config.model_type
    rows = max_rows if engine == "vllm" else SamplingParams.max_rows
    fault = engine_of(model, engine).refuses(model, longest) or engine_fault(model, engine, rows)
    if fault and engine == "native":
        rank_zero_warn(f"the native engine cannot sample from {kind} ({fault}), so that `generate` of transformers does.")
        return chosen_engine(model, "transformers", longest)
    if fault and engine == "transformers":
        return chosen_engine(model, APART, longest)
    if fault:
        name = "`generate` of transformers" if engine == APART else f"engine {engine}"
        raise ValueError(f"{name} cannot sample from {kind}: {fault}.")
    return engine


@once
def engine_fault(model: PreTrainedModel, engine: str, max_rows: int) -> str | None:
    """Why sampled tokens do not have the probabilities that the plain forward pass gives them."""
    prompts, device = texts(model, (6, 3)), model.device
    points, stop = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).to(device), torch.tensor([-1], device=device)
    pad = model.get_input_embeddings().num_embeddings // 2  # any but 0, whose embedding may be 0
    request = Request(
        prompts, 2, SamplingParams(max_new_tokens=4, max_rows=max_rows), stop, pad, points, torch.full((4,), 4, device=device)
    )
    done = engine_of(model, engine).sample(model, request, share=True)
    for prompt, own in ((0, 0), (0, 1), (1, 2), (1, 3)):
        tokens_T = done.tokens_NT[own]
        logits_TV = plain_logits(model, [*prompts[prompt], *tokens_T.tolist()])[len(prompts[prompt]) - 1 : -1]
        expected_T = logits_TV.float().log_softmax(-1).gather(1, tokens_T[:, None]).squeeze(1)
        if differs(done.logp_NT[own], expected_T, logits_TV):
            return "its steps give other probabilities than the whole text"
    return None
