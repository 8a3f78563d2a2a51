"""What a verified response is worth: one small class per reward."""

from lightning_modules.rewards.mixed import MixedReward
from lightning_modules.rewards.outcome import OutcomeReward
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.strict import StrictReward

__all__ = ["MixedReward", "OutcomeReward", "Reward", "StrictReward"]
