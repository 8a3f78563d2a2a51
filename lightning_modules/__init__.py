"""What learns."""

import sys

from lightning_modules.midtrain import MidtrainModule
from lightning_modules.models import critic
from lightning_modules.policy.dr_grpo import DrGRPOModule
from lightning_modules.policy.grpo import GRPOModule
from lightning_modules.policy.gspo import GSPOModule
from lightning_modules.policy.ppo import PPOModule
from lightning_modules.policy.rloo import RLOOModule
from lightning_modules.pretrain import PretrainModule

__all__ = ["DrGRPOModule", "GRPOModule", "GSPOModule", "MidtrainModule", "PPOModule", "PretrainModule", "RLOOModule"]

sys.modules[f"{__name__}.critic"] = critic  # class paths of configs written before there were rooms
