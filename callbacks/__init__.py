"""Lightning callbacks, one job each; usable by `class_path` in any config."""

import sys

from callbacks.evaluation.sample_files import SampleWriter
from callbacks.evaluation.sample_log import SampleLog
from callbacks.evaluation.verified_pass_at_k import VerifiedPassAtK
from callbacks.monitors.entropy import EntropyMonitor
from callbacks.monitors.progress import ProgressLines, StageBar, progress
from callbacks.monitors.reward_hacking import RewardHacking
from callbacks.monitors.stability import GradientNorm, NonFiniteLoss
from callbacks.monitors.throughput import Memory, Throughput
from callbacks.monitors.zero_variance import ZeroVariance
from callbacks.records.board_views import BoardViews
from callbacks.records.checkpoint import Checkpoint, RandomState
from callbacks.records.export import HuggingFaceExport
from callbacks.records.logs import MetricsCSV, RewindLogs, TensorBoard
from callbacks.records.run_record import ComputeLedger, MixtureRecord, RunRecord
from callbacks.steering.competence import UntilCompetent
from callbacks.steering.compute_budget import ComputeBudget
from callbacks.steering.edge_of_competence import EdgeOfCompetence
from callbacks.steering.peak import StopAtPeak
from callbacks.steering.token_budget import TokenBudget

__all__ = [
    "BoardViews",
    "Checkpoint", "ComputeBudget", "ComputeLedger", "EdgeOfCompetence", "EntropyMonitor", "GradientNorm", "HuggingFaceExport",
    "Memory", "MetricsCSV", "MixtureRecord", "NonFiniteLoss", "ProgressLines", "RandomState", "RewardHacking", "RewindLogs",
    "RunRecord", "SampleLog", "SampleWriter", "StageBar", "StopAtPeak", "TensorBoard", "Throughput", "TokenBudget",
    "UntilCompetent", "VerifiedPassAtK", "ZeroVariance", "progress",
]  # fmt: skip

# class paths of older configs: callbacks.checkpoint.Checkpoint
for _path in [path for path in sys.modules if path.startswith(f"{__name__}.") and path.count(".") == 2]:
    sys.modules[f"{__name__}.{_path.rpartition('.')[2]}"] = sys.modules[_path]
for _old, _new in {
    "compute_ledger": ComputeLedger, "gradient_norm": GradientNorm, "memory": Memory, "mixture_record": MixtureRecord,
    "non_finite": NonFiniteLoss, "pass_at_k": VerifiedPassAtK, "random_state": RandomState, "sample_store": SampleWriter,
    "sample_writer": SampleWriter, "stop_signals": Checkpoint,
}.items():  # fmt: skip
    sys.modules[f"{__name__}.{_old}"] = sys.modules[_new.__module__]
sys.modules[f"{__name__}.kl_control"] = sys.modules[__name__]


def __getattr__(name: str) -> object:
    if name == "KLControl":
        raise AttributeError("KLControl has been removed; set `model.init_args.kl.target` (and `.gain`, `.bounds`) instead.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
