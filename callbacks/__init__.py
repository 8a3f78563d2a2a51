"""Lightning callbacks, one job each; usable by `class_path` in any config."""

from callbacks.checkpoint import Checkpoint
from callbacks.compute_budget import ComputeBudget
from callbacks.compute_ledger import ComputeLedger
from callbacks.edge_of_competence import EdgeOfCompetence
from callbacks.entropy import EntropyMonitor
from callbacks.export import HuggingFaceExport
from callbacks.gradient_norm import GradientNorm
from callbacks.kl_control import KLControl
from callbacks.logs import MetricsCSV, RewindLogs, TensorBoard
from callbacks.memory import Memory
from callbacks.mixture_record import MixtureRecord
from callbacks.non_finite import NonFiniteLoss
from callbacks.pass_at_k import VerifiedPassAtK
from callbacks.progress import ProgressLines, StageBar, progress
from callbacks.random_state import RandomState
from callbacks.reward_hacking import RewardHacking
from callbacks.run_record import RunRecord
from callbacks.sample_log import SampleLog
from callbacks.sample_writer import SampleWriter
from callbacks.throughput import Throughput
from callbacks.token_budget import TokenBudget
from callbacks.zero_variance import ZeroVariance

__all__ = [
    "Checkpoint",
    "ComputeBudget",
    "ComputeLedger",
    "EdgeOfCompetence",
    "EntropyMonitor",
    "GradientNorm",
    "HuggingFaceExport",
    "KLControl",
    "Memory",
    "MetricsCSV",
    "MixtureRecord",
    "NonFiniteLoss",
    "ProgressLines",
    "RandomState",
    "RewardHacking",
    "RewindLogs",
    "RunRecord",
    "SampleLog",
    "SampleWriter",
    "StageBar",
    "TensorBoard",
    "Throughput",
    "TokenBudget",
    "VerifiedPassAtK",
    "ZeroVariance",
    "progress",
]
