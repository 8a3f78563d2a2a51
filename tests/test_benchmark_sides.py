"""What benchmarks compare with is what they say, and pages show what they found."""

import json
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from benchmarks import cpu, versions
from lightning_modules.optimizers import Muon
from lightning_modules.optimizers.muon import BatchedMuon


def stepped(inside):
    """Weights after two steps of Muon, and the class of its part for matrices."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 4))
    with inside:
        optimizer = Muon()(model)
        for _ in range(2):
            model(torch.ones(3, 6)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    return type(optimizer.parts[0]), [p.detach() for p in model.parameters()]


def test_muon_as_it_was_takes_matrices_one_by_one_and_the_same_steps():
    (before, slow), (now, fast) = stepped(cpu.matrix_by_matrix()), stepped(nullcontext())
    assert (before, now) == (torch.optim.Muon, BatchedMuon)
    for one, other in zip(slow, fast, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert stepped(nullcontext())[0] is BatchedMuon  # no longer than asked


def test_the_page_has_the_versions_that_were_tested():
    found = json.loads(versions.RESULTS.read_text(encoding="utf-8"))
    assert versions.table(found) == versions.MARKED.search(versions.PAGE.read_text(encoding="utf-8"))[0]


def test_the_page_has_the_ratios_that_were_measured():
    """docs/training.md: rates of a bare loop and of transformers.Trainer, and what attention as shipped gains."""
    sides = json.loads((versions.RESULTS.parent / "train_speed_cpu.json").read_text(encoding="utf-8"))["sides"]
    page = " ".join((versions.PAGE.parent / "training.md").read_text(encoding="utf-8").split())
    loop, trainer = (sides[name]["ratio"] for name in ("bare loop", "transformers.Trainer"))
    assert f"it has {loop:.2f} of the loop's rate and {trainer:.2f} of the Trainer's" in page
    assert f"as it is shipped, {loop / sides['this project, as shipped']['ratio']:.1f} times as much as either" in page
    assert f"{trainer / sides['this project, as shipped']['ratio']:.1f}" == "1.3"
