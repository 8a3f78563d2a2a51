"""What learns."""

from lightning_modules.grpo import GRPOModule
from lightning_modules.midtrain import MidtrainModule
from lightning_modules.pretrain import PretrainModule

__all__ = ["GRPOModule", "MidtrainModule", "PretrainModule"]
