"""Memory and waits of training steps on a pretended CUDA device; needs a PyTorch linked against CUDA (`make pretend-gpu`)."""

from contextlib import suppress

import pytest
import torch
from torch._subclasses.fake_tensor import DynamicOutputShapeException

from benchmarks import pretended_memory
from benchmarks.pretended_device import linked, pretended
from benchmarks.pretended_memory import CASES, measure, set_up, stage, step
from lightning_modules.models.attending import attending
from lightning_modules.models.language_model import build_language_model
from lightning_modules.models.memory import kept_bytes
from lightning_modules.models.passes import on_device
from lightning_modules.rollout import SamplingParams
from lightning_modules.rollout.graphed import GraphedSampler
from lightning_modules.rollout.graphed_sharing import GraphedSharing
from lightning_modules.rollout.sampling import Request
from lightning_modules.rollout.slots import IN_SLOTS
from tests_support import TINY

pytestmark = pytest.mark.skipif(not linked(), reason="this PyTorch is not linked against CUDA; see `make pretend-gpu`")


@pytest.mark.parametrize("name", CASES)
def test_a_step_stays_within_its_memory_and_waits_for_nothing(name):
    found = measure(CASES[name])
    assert 1 < found["peak_gib"] <= CASES[name].most
    assert found["waits"] == {}


@pytest.mark.parametrize("kind", [GraphedSampler, GraphedSharing])
def test_steps_of_sampling_wait_for_nothing(kind):
    """Each completion in a slot of its own, as rollouts have it, and prefixes that samples share, as in evaluations."""
    params = SamplingParams(max_new_tokens=24, temperature=0.7)
    request = Request([[5, 6, 7]] * 4, 8, params, torch.tensor([3, 9]), 1, torch.zeros(32, 24), torch.full((32,), 24))
    with pretended("cuda") as watch:
        with torch.device("cuda"):
            model = build_language_model(TINY).eval()
        request.stop_S, request.point_NT, request.limit_N = (
            torch.zeros_like(x, device="cuda") for x in (request.stop_S, request.point_NT, request.limit_N)
        )
        with torch.inference_mode(), attending(model, IN_SLOTS):
            sampler = kind(model, request, stride=16)
            sampler.pool, sampler.rows = None, 16
            watch.waits.clear()
            before = watch.kernels
            for _ in range(sampler.every):
                sampler.advance()
        assert watch.kernels > 100 + before
        assert watch.waits == {}


def test_waits_are_seen():
    with pretended("cuda") as watch:
        x = torch.ones(8, device="cuda")
        x * 2
        assert not watch.waits
        for wait in (lambda: x[x > 0], lambda: x.nonzero(), lambda: x.to("cpu"), lambda: torch.ones(3).to("cuda")):
            before = sum(watch.waits.values())
            with suppress(DynamicOutputShapeException):  # a shape that depends on values has none here
                wait()
            assert sum(watch.waits.values()) == before + 1
        on_device([1, 2, 3], torch.device("cuda"))
        assert sum(watch.waits.values()) == before + 1


def test_live_bytes_are_those_of_tensors_that_are_held():
    with pretended("cuda") as watch:
        held = torch.zeros(1000, device="cuda")
        view, twice = held[10:], held * 2
        assert watch.live == 8000
        del twice
        assert (watch.live, watch.peak) == (4000, 8000)
        assert view is not None


def test_a_pretended_cpu_holds_the_bytes_of_the_pretended_gpu():
    """So the peak of a backward pass, which a GPU without a driver refuses, is read from a pretended CPU."""
    case = CASES["GRPO, small"]
    peaks = [step(case, 30_000, device, backward=False)["peak_gib"] for device in ("cuda", "cpu")]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)


def test_bytes_of_a_token_grow_with_layers_and_width():
    found = {}
    for name in ("pretrain_12m", "pretrain_100m", "pretrain_400m"):
        case = pretended_memory.Case(name, 1, 80, 80)
        module = stage(case)
        with pretended("cuda"), torch.autocast("cuda", torch.bfloat16):
            set_up(module, case, "cuda")
            sizes = pretended_memory.architecture(name)
            layers, hidden, inner = (sizes[key] for key in ("num_hidden_layers", "hidden_size", "intermediate_size"))
            # at least the residual, two norms, and gate, up and down of the MLP in 16 bit, for each layer
            found[name] = kept_bytes(module.states, torch.device("cuda")) / (layers * (4 * hidden + 2 * 2 * hidden + 6 * inner))
    assert all(1 < ratio < 5 for ratio in found.values())
