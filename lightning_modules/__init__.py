"""Training stages."""

import sys

from lightning_modules.models import critic
from lightning_modules.policy import grpo
from lightning_modules.policy.group_objectives import BestOfKModule, MaxRLModule, PKPOModule
from lightning_modules.policy.grpo import DrGRPOModule, GRPOModule, GSPOModule, RLOOModule
from lightning_modules.policy.ppo import PPOModule
from lightning_modules.pretrain import MidtrainModule, PretrainModule

__all__ = [
    "BestOfKModule", "DrGRPOModule", "GRPOModule", "GSPOModule", "MaxRLModule", "MidtrainModule", "PKPOModule", "PPOModule",
    "PretrainModule", "RLOOModule",
]  # fmt: skip

# class paths of older configs
_EARLIER = {
    "critic": critic, "midtrain": sys.modules[f"{__name__}.pretrain"], "ppo": sys.modules[f"{__name__}.policy.ppo"],
    **dict.fromkeys(("grpo", "dr_grpo", "gspo", "rloo"), grpo),
}  # fmt: skip
sys.modules.update({f"{__name__}.{name}": module for name, module in _EARLIER.items()})
