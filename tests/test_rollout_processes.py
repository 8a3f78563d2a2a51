"""Sampling in two processes (gloo) at lengths of their own: nobody waits for anybody, and training goes on afterwards."""

import json
import os
from pathlib import Path

import pytest
import torch
import torch.distributed
from processes import run
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from datamodules.problems.keyed import keyed_generator
from lightning_modules.models.language_model import build_language_model
from lightning_modules.models.sharding import gathered, shard
from lightning_modules.rollout import Completions, SamplingParams, sample
from lightning_modules.rollout.native import Native
from lightning_modules.rollout.sampling import Request
from tests_support import TINY

PROMPTS = {0: [[5, 6, 7], [8, 9]], 1: [[11, 12, 13, 14, 15, 16, 17]]}
LIMITS = {0: [1, 2, 1, 3, 2, 2], 1: [60, 3, 41]}


class Steps(Native):
    """The steps of a GPU, on a copy of the weights that is kept from one rollout to the next."""

    copies = 0

    def sample(self, model: PreTrainedModel, request: Request, *, share: bool = False) -> Completions:
        before = self.replica
        done = self.in_graphs(model, request, every=3, stride=16)
        self.copies += self.replica is not before
        assert self.copies <= 2  # of the model that is tried, in evaluation mode, and of the one that is sampled from
        return done


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_language_model(TINY).train()


def completions(language_model: torch.nn.Module, rank: int, engine: str) -> list[list[int]]:
    params = SamplingParams(max_new_tokens=60, engine=engine, max_rows=4)
    generators = [keyed_generator(f"{rank}/{b}") for b in range(len(PROMPTS[rank]))]
    return sample(
        language_model, PROMPTS[rank], 3, params, stop_ids=[], pad_id=1, generator=generators, limits=LIMITS[rank]
    ).rows()  # fmt: skip


def rollouts(kind: str, engine: str, rank: int) -> list[list[list[int]]]:
    inner = model()
    trained = inner
    if kind == "ddp":
        trained = DistributedDataParallel(inner)
    else:
        shard(inner, init_device_mesh("cpu", (2, 1), mesh_dim_names=("data_parallel", "tensor_parallel")))
    optimizer, found = torch.optim.SGD(trained.parameters(), lr=0.1), []
    ids = torch.arange(10, 30).view(2, 10)[rank : rank + 1]
    for _ in range(2):
        with gathered(inner):
            found.append(completions(inner, rank, engine))
        trained(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return found


def work(kind: str, engine: str, folder: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch.distributed.init_process_group("gloo", rank=rank)
    # `trained` dies within: the last owner of a group joins its thread, and DDP's reducer does so holding the lock of
    # Python, for which that thread may wait; the group itself lets go of it first
    found = rollouts(kind, engine, rank)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> list[list[list[list[int]]]]:
    """Oracle: one process, both batches; the rollouts of each rank before and after the step."""
    one, found = model(), [[], []]
    ids = torch.arange(10, 30).view(2, 10)
    for _ in range(2):
        for rank in (0, 1):
            found[rank].append(completions(one, rank, "native"))
        one(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        with torch.no_grad():
            for parameter in one.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None
    return found


@pytest.mark.parametrize("engine", ["native", "transformers", f"{__name__}.Steps"])
@pytest.mark.parametrize("kind", ["ddp", "sharded"])
def test_processes_sample_ragged_lengths_and_go_on_training(tmp_path, alone, kind, engine):
    assert run(work, kind, engine, tmp_path, world=2, timeout=90) == [0, 0]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == alone[rank]
