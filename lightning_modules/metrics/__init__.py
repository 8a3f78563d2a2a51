"""What is measured: functions of samples."""

from lightning_modules.metrics.pass_at_k import pass_at_k

__all__ = ["pass_at_k"]
