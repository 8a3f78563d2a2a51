"""The sampling engines against teacher forcing, against each other and against transformers' own greedy search."""

from collections import Counter
from contextlib import nullcontext
from typing import ClassVar

import pytest
import torch
from architectures import ARCHITECTURES
from lightning import Trainer
from policy_runs import problems
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from lightning_modules import GRPOModule, MidtrainModule
from lightning_modules.models.attending import attending
from lightning_modules.models.language_model import build_language_model
from lightning_modules.rewards import OutcomeReward
from lightning_modules.rollout import SamplingParams, chosen_engine, sample
from lightning_modules.rollout.by_generate import generate
from lightning_modules.rollout.graphed import GraphedSampler
from lightning_modules.rollout.graphed_sharing import GraphedSharing
from lightning_modules.rollout.native import Native
from lightning_modules.rollout.prefix_sharing import PrefixSampler
from lightning_modules.rollout.sampling import Request, uniform_points
from lightning_modules.rollout.slots import IN_SLOTS, attend_in_slots
from lightning_modules.stage import Evaluation
from tests_support import TINY

STOP = [9, 3]
ENGINES = {
    "shared prompts": lambda model, request: PrefixSampler(model, request).run(),
    "graphed": lambda model, request: GraphedSampler(model, request, every=3, stride=8).run(),
    "graphed sharing": lambda model, request: GraphedSharing(model, request, every=3, stride=8).run(),
    "transformers": generate,
}


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def sharp_model(tiny_model):
    """Samples agree for a while and end at different lengths."""
    tiny_model.lm_head.weight.data *= 14
    return tiny_model


@torch.inference_mode()
def run(engine, model, prompt_ids, group_size=3, generator=None, limits=None, stop=STOP, **params):
    params = SamplingParams(**{"max_new_tokens": 24, **params})
    points = uniform_points(len(prompt_ids), group_size, params, generator or torch.Generator().manual_seed(0))
    limits = torch.tensor(limits or [params.max_new_tokens] * len(points))
    request = Request(prompt_ids, group_size, params, torch.tensor(stop, dtype=torch.int64), 1, points, limits)
    with attending(model, model.config._attn_implementation if engine == "transformers" else IN_SLOTS):
        return ENGINES[engine](model, request)


@torch.no_grad()
def teacher_forced(model, prompt, completion, temperature=1.0):
    """One row, no cache, no padding: the definition."""
    logits = model(input_ids=torch.tensor([[*prompt, *completion]]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return (logits / temperature).log_softmax(-1).gather(1, torch.tensor(completion)[:, None]).squeeze(1)


def assert_teacher_forced(model, prompt_ids, done, temperature=1.0):
    rows = done.rows()
    group = len(rows) // len(prompt_ids)
    for n, row in enumerate(rows):
        expected = teacher_forced(model, prompt_ids[n // group], row, temperature)
        assert torch.allclose(done.logp_NT[n, : len(row)], expected, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("max_rows", [1000, 8])
def test_log_probabilities_equal_teacher_forcing(engine, sharp_model, prompts, temperature, max_rows):
    limits = [1 + (7 * n) % 24 for n in range(30)]
    done = run(engine, sharp_model, prompts.prompt_ids, 6, limits=limits, temperature=temperature, max_rows=max_rows)
    assert len(set(map(tuple, done.rows()))) > 20  # places did fork
    assert len(set(done.length_N.tolist())) > 10
    assert_teacher_forced(sharp_model, prompts.prompt_ids, done, temperature)


@pytest.mark.parametrize("settings", [{"top_p": 0.6}, {"top_k": 3}, {"top_p": 0.9, "top_k": 5, "temperature": 0.8}])
def test_log_probabilities_of_truncated_draws_are_those_of_the_whole_distribution(engine, sharp_model, prompts, settings):
    done = run(engine, sharp_model, prompts.prompt_ids, **settings)
    assert_teacher_forced(sharp_model, prompts.prompt_ids, done, settings.get("temperature", 1.0))


@pytest.mark.parametrize("max_rows", [1000, 7])
def test_all_engines_draw_the_same(engine, sharp_model, prompts, max_rows):
    """Oracle: transformers' generate, all side by side."""
    if (engine, max_rows) == ("transformers", 1000):
        pytest.skip("this is the oracle")
    limits = [1 + (7 * n) % 24 for n in range(30)]
    expected = run("transformers", sharp_model, prompts.prompt_ids, 6, limits=limits)
    done = run(engine, sharp_model, prompts.prompt_ids, 6, limits=limits, max_rows=max_rows)
    assert done.rows() == expected.rows()
    assert torch.allclose(done.logp_NT, expected.logp_NT, atol=1e-4)


@pytest.mark.parametrize("max_rows", [1000, 4])
def test_greedy_equals_generate(engine, tiny_model, prompts, max_rows):
    done = run(engine, tiny_model, prompts.prompt_ids, 2, temperature=0.0, max_rows=max_rows).rows()
    for n, prompt in enumerate(prompts.prompt_ids):
        ids = torch.tensor([prompt])
        output = tiny_model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, eos_token_id=STOP, pad_token_id=1
        )
        assert output[0, len(prompt) :].tolist() == done[2 * n] == done[2 * n + 1]


def test_a_completion_ends_at_its_first_stop_token(engine, tiny_model, prompts):
    tiny_model.model.embed_tokens.weight.data[9] *= 10
    done = run(engine, tiny_model, prompts.prompt_ids, 20)
    lengths = done.length_N.tolist()
    assert min(lengths) < max(lengths)
    for n, row in enumerate(done.rows()):
        assert not set(row[:-1]) & set(STOP)
        assert row[-1] in STOP or len(row) == 24
        assert (done.tokens_NT[n, len(row) :] == 1).all()
        assert (done.logp_NT[n, len(row) :] == 0).all()


def test_prompts_of_one_token_and_of_very_different_lengths(engine, sharp_model, prompts):
    mixed = [[5], prompts.prompt_ids[0] * 3, [7, 8], prompts.prompt_ids[1], [6]]
    for prompt_ids in (mixed, [[5], [6]]):
        done = run(engine, sharp_model, prompt_ids, 4, max_rows=8)
        assert_teacher_forced(sharp_model, prompt_ids, done)


def test_a_prompt_with_its_own_generator_is_sampled_alike_in_any_company(engine, sharp_model, prompts):
    def own(seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = run(engine, sharp_model, prompts.prompt_ids, 3, own(range(5)), max_rows=6).rows()
    other_order = run(engine, sharp_model, prompts.prompt_ids[::-1], 3, own(range(5)[::-1])).rows()
    for b, prompt in enumerate(prompts.prompt_ids):
        alone = run(engine, sharp_model, [prompt], 3, own([b])).rows()
        assert alone == together[3 * b : 3 * b + 3] == other_order[12 - 3 * b : 15 - 3 * b]


def test_common_beginnings_are_computed_once(sharp_model, prompts):
    rows = []
    sharp_model.register_forward_hook(lambda module, inputs, output: rows.append(len(output.logits)))
    done = run("shared prompts", sharp_model, prompts.prompt_ids[:1], 16)
    beginnings = {tuple(row[:t]) for row in done.rows() for t in range(len(row))}
    assert len(beginnings) + 1 <= sum(rows) < 1.2 * len(beginnings) < int(done.length_N.sum())  # 1: the prompt


def test_places_are_filled_again(engine, sharp_model, prompts):
    if engine == "transformers":
        pytest.skip("generate samples chunk by chunk")
    sizes = []
    sharp_model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output.logits)))
    limits = [1 + (7 * n) % 24 for n in range(20)]
    run(engine, sharp_model, prompts.prompt_ids[:5], 4, limits=limits, max_rows=8, stop=[], temperature=5.0)
    assert max(sizes) <= 8
    chunked = sum(max(limits[first : first + 8]) for first in range(0, 20, 8))
    assert len(sizes) < chunked + 5  # forward passes of prompts among them


def test_soft_caps_and_sinks_are_refused():
    with pytest.raises(ValueError, match=r"support \['softcap'\].*engine: transformers"):
        attend_in_slots(None, *torch.zeros(3, 1, 1, 1, 4), None, softcap=30.0)


def small(model_type, **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type, vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, bos_token_id=0, eos_token_id=1, pad_token_id=1, **settings,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gpt_neox", "gpt2"])
def test_other_models_with_full_attention_work(engine, model_type):
    model, prompt_ids = small(model_type), [[5, 6, 7, 8], [11, 12]]
    assert_teacher_forced(model, prompt_ids, run(engine, model, prompt_ids, 3))


def sharpen_single_steps(module, inputs, output):
    if output.logits.shape[1] == 1:
        output.logits *= 1.5


def test_a_model_that_the_native_engine_does_not_know_is_sampled_by_transformers_or_refused():
    strange = {
        "a sliding window of 4 tokens, and texts may have 6": small("mistral", sliding_window=4),
        "a special attention": small("llama"),
        "other probabilities than the whole text": small("qwen3"),
    }
    strange["a special attention"]._supports_attention_backend = False
    strange["other probabilities than the whole text"].register_forward_hook(sharpen_single_steps)
    params = SamplingParams(max_new_tokens=4)
    for what, model in strange.items():
        refused = pytest.raises(ValueError, match=f"cannot sample from qwen3: its steps give {what}")
        done = None
        with pytest.warns(UserWarning, match=what), refused if what.startswith("other") else nullcontext():
            done = sample(model, [[5, 6]], 2, params, stop_ids=[], pad_id=1)
        if done:
            assert_teacher_forced(model, [[5, 6]], done)


def test_a_short_text_within_the_window_is_sampled_natively():
    model = small("mistral", sliding_window=16)
    assert chosen_engine(model, "native", 16) == "native"
    with pytest.warns(UserWarning, match="window of 16 tokens, and texts may have 17"):
        assert chosen_engine(model, "native", 17) == "transformers"
    done = sample(model, [[5, 6], [7]], 2, SamplingParams(max_new_tokens=14), stop_ids=[], pad_id=1)
    assert_teacher_forced(model, [[5, 6], [7]], done)


def test_a_generation_config_of_the_model_does_not_change_samples():
    model, params = small("llama"), SamplingParams(max_new_tokens=12, engine="transformers")
    model.generation_config = GenerationConfig(repetition_penalty=5.0, top_k=1, max_length=4, eos_token_id=list(range(50)))
    done = sample(model, [[5, 6], [7]], 2, params, stop_ids=[], pad_id=1)
    assert_teacher_forced(model, [[5, 6], [7]], done)
    assert done.length_N.tolist() == [12] * 4 and model.generation_config.repetition_penalty == 5.0


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neo", "gptj", "codegen"])
def test_generate_does_not_feed_a_row_beyond_the_positions_while_others_go_on(model_type):
    places = "max_position_embeddings" if model_type == "gpt_neo" else "n_positions"
    model = build_language_model(ARCHITECTURES[model_type] | {places: 24}).eval()
    params = SamplingParams(max_new_tokens=20, engine="transformers")
    prompts = [[5] * 12, [6] * 3]
    done = sample(model, prompts, 2, params, stop_ids=[], pad_id=1)
    assert done.length_N.tolist() == [12, 12, 20, 20]
    assert_teacher_forced(model, prompts, done)


@pytest.mark.parametrize("model_type", ["gpt2", "qwen3"])
def test_completions_end_where_the_model_has_no_further_positions(model_type):
    """gpt2 has a learned embedding for each of its positions, and fails beyond them."""
    model, params = small(model_type, max_position_embeddings=16), SamplingParams(max_new_tokens=24)
    done = sample(model, [[5] * 10, [6] * 15], 2, params, stop_ids=[], pad_id=1)
    assert done.length_N.tolist() == [6, 6, 1, 1]
    with pytest.raises(ValueError, match="a prompt of 16 tokens leaves no position for a completion, as the model has 16"):
        sample(model, [[5] * 16, [6]], 2, params, stop_ids=[], pad_id=1)


def test_completions_come_with_the_probabilities_of_the_model(sharp_model, prompts):
    """Oracle: p(a, b) = p(a) p(b | a) by teacher forcing, for the commonest pairs of 20,000 samples."""
    prompt, count = prompts.prompt_ids[0], 20_000
    done = run("shared prompts", sharp_model, [prompt], count, max_new_tokens=2, max_rows=count)
    pairs = Counter(map(tuple, done.rows()))
    assert len(pairs) > 20
    for pair, times in pairs.most_common(8):
        expected = teacher_forced(sharp_model, prompt, list(pair)).sum().exp().item()
        assert times / count == pytest.approx(expected, abs=4 * (expected * (1 - expected) / count) ** 0.5)


def test_samples_of_a_prompt_are_independent(sharp_model, prompts):
    """Oracle: two independent draws agree in their first token with probability sum p^2."""
    prompt = prompts.prompt_ids[1]
    with torch.no_grad():
        p = sharp_model(input_ids=torch.tensor([prompt])).logits[0, -1].softmax(-1)
    expected, groups = p.square().sum().item(), 4000
    done = run("shared prompts", sharp_model, [prompt] * groups, 2, max_new_tokens=1, max_rows=2 * groups)
    first, second = done.tokens_NT[:, 0].view(groups, 2).T
    agree = (first == second).float().mean().item()
    assert agree == pytest.approx(expected, abs=4 * (expected * (1 - expected) / groups) ** 0.5)


@pytest.mark.parametrize("autocast", [True, False])
def test_in_16_bit_log_probabilities_are_close_to_teacher_forcing(engine, sharp_model, prompts, autocast):
    """16 bit has 8 bits of mantissa; logits here reach 10."""
    sharp_model = sharp_model if autocast else sharp_model.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        done = run(engine, sharp_model, prompts.prompt_ids, 3)
        for n, row in enumerate(done.rows()):
            expected = teacher_forced(sharp_model, prompts.prompt_ids[n // 3], row).float()
            assert (done.logp_NT[n, : len(row)] - expected).abs().mean() < 0.05


class Kept(Native):
    """Remembers what it is asked for."""

    events: ClassVar[list[str]] = []

    def sample(self, model, request, *, share=False):
        self.events.append("sample")
        return super().sample(model, request, share=share)

    def release(self):
        self.events.append("release")


@pytest.mark.parametrize("kind", [MidtrainModule, GRPOModule])
def test_an_evaluation_that_has_ended_gives_memory_back(start, tmp_path, kind):
    sampling = SamplingParams(max_new_tokens=4, engine=f"{__name__}.Kept")
    parts = (start, OutcomeReward()) if kind is GRPOModule else (start,)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    Kept.events.clear()
    trainer.validate(kind(*parts, evaluation=Evaluation(samples=2, sampling=sampling)), problems(), verbose=False)
    assert Kept.events[-2:] == ["sample", "release"] and Kept.events.count("release") == 1


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("share", [False, True])
def test_on_a_gpu_log_probabilities_equal_teacher_forcing(prompts, half, share):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    torch.manual_seed(0)
    model = build_language_model(TINY | {"hidden_size": 64, "num_hidden_layers": 3}).cuda().eval()
    model.lm_head.weight.data *= 14
    limits = [1 + (17 * n) % 200 for n in range(30)]
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        done = sample(
            model, prompts.prompt_ids, 6, SamplingParams(max_new_tokens=200, max_rows=16), stop_ids=[], pad_id=1, limits=limits,
            share=share,
        )  # fmt: skip
        assert done.length_N.tolist() == limits
        for n, row in enumerate(done.rows()):
            ids = torch.tensor([[*prompts.prompt_ids[n // 6], *row]], device="cuda")
            with torch.no_grad():
                logp = model(input_ids=ids, use_cache=False).logits[0, -len(row) - 1 : -1].float().log_softmax(-1)
            expected = logp.gather(1, ids[0, -len(row) :, None]).squeeze(1)
            off = (done.logp_NT[n, : len(row)] - expected).abs()
            assert off.mean() < 0.05 if half else off.max() < 1e-4
