"""Sampling by vLLM (`pip install 'interplay[vllm]'`), for models of a billion parameters and more.

It runs in this process, on this device, beside the model that learns: at each rollout it takes the weights that the model has
now, in place. It draws by itself, from a seed for each completion that the request's random numbers decide; log-probabilities
are those that it computed, by kernels of its own, so a trainer compares them with its own (`train/sampler_gap_nats`).
"""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.models.attending import autocast_dtype
from lightning_modules.models.language_model import longest_text
from lightning_modules.models.lora import adapted, merged
from lightning_modules.rollout.engine import Engine
from lightning_modules.rollout.sampling import Completions, Request

MEMORY = 0.3  # share of a GPU's memory for its weights, keys and values; the rest is for training
SEEDS = 1 << 31


class VLLM(Engine):
    """Keeps one `vllm.LLM`, made at the first rollout."""

    def __init__(self) -> None:
        self.llm: Any = None

    def refuses(self, model: PreTrainedModel, longest: int) -> str | None:
        """See Engine."""
        if find_spec("vllm") is None:
            return "the package `vllm` is not installed (pip install 'interplay[vllm]')"
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            return "it runs in one process, and there are several"
        return None if longest_text(model.config) else "its config does not say how long texts may be"

    def sample(self, model: PreTrainedModel, request: Request, *, share: bool = False) -> Completions:
        """See Engine; prefixes are shared in any case. At temperatures other than 0 and 1 log-probabilities are unknown (NaN)."""
        if self.llm is None:
            self.llm = built(model, request.params.max_rows)
        self.push(model)
        prompts = [{"prompt_token_ids": list(request.prompts[n // request.group_size])} for n in range(len(request.limit_N))]
        outputs = self.llm.generate(prompts, self.params(request), use_tqdm=False)
        n, most = request.point_NT.shape
        done, known = Completions.empty(n, most, request.pad_id, request.point_NT.device), request.params.temperature in (0, 1)
        for row, output in enumerate(outputs):
            (found,) = output.outputs
            ids, count = list(found.token_ids), len(found.token_ids)
            logp = [here[token].logprob for token, here in zip(ids, found.logprobs, strict=True)]
            done.tokens_NT[row, :count] = torch.tensor(ids, device=done.tokens_NT.device)
            done.logp_NT[row, :count] = torch.tensor(logp, device=done.logp_NT.device) if known else torch.nan
            done.length_N[row] = count
        return done.trimmed()

    def params(self, request: Request) -> list[Any]:
        """Settings of each completion for vLLM."""
        from vllm import SamplingParams

        stop = [token for token in request.stop_S.tolist() if token >= 0]
        seeds = (request.point_NT[:, 0].double() * SEEDS).long().tolist()
        return [
            SamplingParams(
                temperature=request.params.temperature, top_p=request.params.top_p, top_k=request.params.top_k, seed=seed,
                max_tokens=limit, stop_token_ids=stop, ignore_eos=True, detokenize=False, logprobs=0,
            )
            for seed, limit in zip(seeds, request.limit_N.tolist(), strict=True)
        ]  # fmt: skip

    def push(self, model: PreTrainedModel) -> None:
        """Copy the model's weights into vLLM's, and forget keys and values of the old ones."""
        weights: Mapping[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
        weights = merged(model, weights) if adapted(model) else weights
        named = [(name, weight.detach()) for name, weight in weights.items()]
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": named})
        self.llm.reset_prefix_cache()


def built(model: PreTrainedModel, rows: int) -> Any:
    """A `vllm.LLM` of the model's architecture, with any weights.

    Its output layer has weights of its own: with tied ones, vLLM 0.32 keeps the old output layer on a CPU when it takes new ones.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # in this process, whose weights it takes
    from vllm import LLM

    own = {"architectures": [type(model).__name__], "tie_word_embeddings": False}
    with TemporaryDirectory() as folder:
        config = type(model.config).from_dict(model.config.to_dict() | own)
        config.save_pretrained(folder)
        return LLM(
            folder, load_format="dummy", skip_tokenizer_init=True, dtype=str(autocast_dtype(model)).removeprefix("torch."),
            max_num_seqs=rows, max_model_len=longest_text(model.config), gpu_memory_utilization=MEMORY,
            logprobs_mode="raw_logprobs", enforce_eager=model.device.type == "cpu",
        )  # fmt: skip
