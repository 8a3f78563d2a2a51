"""What learns."""

from lightning_modules.dr_grpo import DrGRPOModule
from lightning_modules.grpo import GRPOModule
from lightning_modules.gspo import GSPOModule
from lightning_modules.midtrain import MidtrainModule
from lightning_modules.ppo import PPOModule
from lightning_modules.pretrain import PretrainModule
from lightning_modules.rloo import RLOOModule

__all__ = ["DrGRPOModule", "GRPOModule", "GSPOModule", "MidtrainModule", "PPOModule", "PretrainModule", "RLOOModule"]
