"""Lightning callbacks, one job each; usable by `class_path` in any config."""

from callbacks.compute_ledger import ComputeLedger
from callbacks.export import HuggingFaceExport
from callbacks.pass_at_k import VerifiedPassAtK
from callbacks.run_record import RunRecord
from callbacks.sample_log import SampleLog
from callbacks.sample_writer import SampleWriter
from callbacks.throughput import Throughput

__all__ = ["ComputeLedger", "HuggingFaceExport", "RunRecord", "SampleLog", "SampleWriter", "Throughput", "VerifiedPassAtK"]
