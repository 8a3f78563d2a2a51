"""Lightning callbacks, one job each; usable by `class_path` in any config."""

from callbacks.evaluation.sample_log import SampleLog
from callbacks.evaluation.sample_writer import SampleWriter
from callbacks.evaluation.verified_pass_at_k import VerifiedPassAtK
from callbacks.monitors.entropy import EntropyMonitor
from callbacks.monitors.gradient_norm import GradientNorm
from callbacks.monitors.memory import Memory
from callbacks.monitors.non_finite import NonFiniteLoss
from callbacks.monitors.progress import ProgressLines, StageBar, progress
from callbacks.monitors.reward_hacking import RewardHacking
from callbacks.monitors.throughput import Throughput
from callbacks.monitors.zero_variance import ZeroVariance
from callbacks.records.checkpoint import Checkpoint
from callbacks.records.compute_ledger import ComputeLedger
from callbacks.records.export import HuggingFaceExport
from callbacks.records.logs import MetricsCSV, RewindLogs, TensorBoard
from callbacks.records.mixture_record import MixtureRecord
from callbacks.records.random_state import RandomState
from callbacks.records.run_record import RunRecord
from callbacks.steering.compute_budget import ComputeBudget
from callbacks.steering.edge_of_competence import EdgeOfCompetence
from callbacks.steering.kl_control import KLControl
from callbacks.steering.token_budget import TokenBudget

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
