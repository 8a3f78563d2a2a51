"""What a verified response is worth, and what places in it are: one small class per reward."""

from lightning_modules.rewards.credit import Credit, Earned
from lightning_modules.rewards.format import FormatPenalty
from lightning_modules.rewards.length import LengthPenalty
from lightning_modules.rewards.mixed import MixedReward
from lightning_modules.rewards.noisy import NoisyVerifier
from lightning_modules.rewards.outcome import OutcomeReward
from lightning_modules.rewards.process import ProcessReward
from lightning_modules.rewards.released import ReleasedReward
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.step_credit import StepCredit
from lightning_modules.rewards.strict import StrictReward
from lightning_modules.rewards.weighted_sum import WeightedSum

__all__ = [
    "Credit", "Earned", "FormatPenalty", "LengthPenalty", "MixedReward", "NoisyVerifier", "OutcomeReward", "ProcessReward",
    "ReleasedReward", "Reward", "StepCredit", "StrictReward", "WeightedSum",
]  # fmt: skip
