"""Small things that several tests need."""

import os
import re
import tempfile
from pathlib import Path

import pytest

# what a scheduler, a launcher or a terminal around the tests has set: tests start processes, and read text, of their own
if AROUND := [name for name in os.environ if re.fullmatch("SLURM_.*|(LOCAL_|NODE_)?RANK|WORLD_SIZE|(NO|FORCE)_COLOR", name)]:
    tuple(map(os.environ.pop, AROUND))

# test files that run side by side, and the processes that they start, share the cores
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // WORKERS)))

import torch

from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Component, Mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode_prompts
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

# torch's cache of compiled code does not know what ATEN_CPU_CAPABILITY holds back: code made for one crashes under another
CACHE = Path(tempfile.gettempdir()) / f"torchinductor-{os.getuid()}-{torch.backends.cpu.get_cpu_capability()}"
os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(CACHE)


@pytest.fixture
def tokenizer():
    return load_tokenizer("garden")


@pytest.fixture
def tiny_model():
    torch.manual_seed(0)
    return build_language_model(TINY).eval()


@pytest.fixture
def synthesis():
    return Synthesis(Mixture([Component("2-5", ["garden"])]), GraphSpec(constants=0.2, distractors=(0, 0)), random_letters=False)


@pytest.fixture
def prompts(synthesis, tokenizer):
    return encode_prompts([synthesis.example("train", i) for i in range(5)], list(range(5)), tokenizer)


@pytest.fixture
def start(tmp_path):
    """A folder of fresh weights to start from."""
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    return str(tmp_path / "start")
