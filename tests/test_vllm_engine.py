"""The vLLM engine, with vLLM where it is installed, and with a stand-in that has the part of its API that is used.

docs/rollout.md says how to run these tests with vLLM itself.
"""

import sys
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lightning_modules.models.language_model import build_language_model
from lightning_modules.rollout import SamplingParams, sample
from lightning_modules.rollout.engine import engine_of
from tests_support import TINY

PROMPTS = [[5, 6, 7], [8, 9], list(range(10, 40))]


@dataclass
class Settings:
    """Stands for vllm.SamplingParams."""

    temperature: float
    top_p: float
    top_k: int
    seed: int
    max_tokens: int
    stop_token_ids: list
    ignore_eos: bool
    detokenize: bool
    logprobs: int


class StandIn:
    """Stands for vllm.LLM: one token after the other by the whole text, with the weights it was last given."""

    def __init__(self, folder, **settings):
        assert settings["load_format"] == "dummy" and settings["logprobs_mode"] == "raw_logprobs"
        config = AutoConfig.from_pretrained(folder)
        assert config.architectures == ["Qwen2ForCausalLM"] and settings["max_model_len"] == config.max_position_embeddings
        self.model = AutoModelForCausalLM.from_config(config).eval()
        self.calls, self.rows = [], settings["max_num_seqs"]

    def collective_rpc(self, method, kwargs):
        self.calls.append(method)
        self.model.load_state_dict(dict(kwargs["weights_iterator"]))

    def reset_prefix_cache(self):
        self.calls.append("reset_prefix_cache")

    @torch.no_grad()
    def generate(self, prompts, params, use_tqdm):
        self.calls.append("generate")
        return [self._one(prompt["prompt_token_ids"], own) for prompt, own in zip(prompts, params, strict=True)]

    def _one(self, ids, params):
        assert params.ignore_eos and not params.detokenize and params.logprobs == 0
        draw, made, logprobs = torch.Generator().manual_seed(params.seed), [], []
        while len(made) < params.max_tokens and not set(made) & set(params.stop_token_ids):
            logits = self.model(input_ids=torch.tensor([[*ids, *made]])).logits[0, -1]
            probability = (logits / (params.temperature or 1)).softmax(-1)
            token = int(torch.multinomial(probability, 1, generator=draw) if params.temperature else logits.argmax())
            made.append(token)
            logprobs.append({token: SimpleNamespace(logprob=logits.log_softmax(-1)[token].item())})
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=made, logprobs=logprobs)])


@pytest.fixture(params=["stand-in", "vllm"])
def vllm(request, monkeypatch):
    if request.param == "vllm":
        if not find_spec("vllm"):
            pytest.skip("vllm is not installed")
    else:
        module = ModuleType("vllm")
        module.LLM, module.SamplingParams, module.__spec__ = StandIn, Settings, SimpleNamespace()
        monkeypatch.setitem(sys.modules, "vllm", module)
    return request.param


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request):
    torch.manual_seed(0)
    model = build_language_model(TINY | {"hidden_size": 128, "tie_word_embeddings": request.param}).eval()
    model.lm_head.weight.data *= 14
    return model


def sampled(model, engine, **settings):
    params = SamplingParams(**{"max_new_tokens": 8, "engine": engine, "max_rows": 8, **settings})
    limits = [1 + n % 8 for n in range(9)]
    draw = torch.Generator().manual_seed(0)
    return sample(model, PROMPTS, 3, params, stop_ids=[3], pad_id=1, generator=draw, limits=limits)


def test_greedy_completions_are_those_of_the_native_engine_before_and_after_an_update(vllm, model):
    for _ in range(2):
        expected, found = sampled(model, "native", temperature=0.0), sampled(model, "vllm", temperature=0.0)
        assert found.rows() == expected.rows()
        assert torch.allclose(found.logp_NT, expected.logp_NT, atol=1e-4)
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    llm = engine_of(model, "vllm").llm
    assert vllm == "vllm" or llm.calls == 3 * ["reload_weights", "reset_prefix_cache", "generate"]  # a trial, two rollouts
    assert vllm == "vllm" or llm.rows == 8  # as asked, although a trial came first


def test_samples_come_from_seeds_with_the_probabilities_of_teacher_forcing(vllm, model):
    first, again = sampled(model, "vllm"), sampled(model, "vllm")
    assert first.rows() == again.rows() and len(set(map(tuple, first.rows()))) > 5
    for n, row in enumerate(first.rows()):
        ids = torch.tensor([[*PROMPTS[n // 3], *row]])
        with torch.no_grad():
            logp = model(input_ids=ids).logits[0, -len(row) - 1 : -1].log_softmax(-1)
        assert torch.allclose(first.logp_NT[n, : len(row)], logp.gather(1, ids[0, -len(row) :, None]).squeeze(1), atol=1e-4)
        assert len(row) <= 1 + n % 8 and 3 not in row[:-1]
    warm = sampled(model, "vllm", temperature=0.7)
    assert all(warm.logp_NT[n, :length].isnan().all() for n, length in enumerate(warm.length_N.tolist()))


def test_without_the_package_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setattr("lightning_modules.rollout.vllm_engine.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"engine vllm cannot sample from qwen2: .* \(pip install 'interplay\[vllm\]'\)"):
        sampled(model, "vllm")
