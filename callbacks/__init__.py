"""Lightning callbacks, one job each; usable by `class_path` in any config."""

from callbacks.checkpoint import Checkpoint
from callbacks.compute_ledger import ComputeLedger
from callbacks.export import HuggingFaceExport
from callbacks.gradient_norm import GradientNorm
from callbacks.logs import MetricsCSV, RewindLogs, TensorBoard
from callbacks.memory import Memory
from callbacks.mixture_record import MixtureRecord
from callbacks.non_finite import NonFiniteLoss
from callbacks.pass_at_k import VerifiedPassAtK
from callbacks.random_state import RandomState
from callbacks.run_record import RunRecord
from callbacks.sample_log import SampleLog
from callbacks.sample_writer import SampleWriter
from callbacks.throughput import Throughput
from callbacks.token_budget import TokenBudget

__all__ = [
    "Checkpoint",
    "ComputeLedger",
    "GradientNorm",
    "HuggingFaceExport",
    "Memory",
    "MetricsCSV",
    "MixtureRecord",
    "NonFiniteLoss",
    "RandomState",
    "RewindLogs",
    "RunRecord",
    "SampleLog",
    "SampleWriter",
    "TensorBoard",
    "Throughput",
    "TokenBudget",
    "VerifiedPassAtK",
]
