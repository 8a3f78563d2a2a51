"""Rewards for verified responses, and credit for places within them: one small class each."""

import sys

from lightning_modules.rewards import credit, penalties, reward
from lightning_modules.rewards.computed_steps import ReasoningReward
from lightning_modules.rewards.credit import Credit, Earned, NodeCredit, StepCredit
from lightning_modules.rewards.noisy import NoisyVerifier
from lightning_modules.rewards.penalties import FormatPenalty, LengthPenalty, OverlongPenalty
from lightning_modules.rewards.released import ReleasedReward, ReleasedTextReward
from lightning_modules.rewards.reward import MixedReward, OutcomeReward, ProcessReward, Reward, StrictReward
from lightning_modules.rewards.scoring import RewardError, earn, score
from lightning_modules.rewards.weighted_sum import WeightedSum

__all__ = [
    "Credit", "Earned", "FormatPenalty", "LengthPenalty", "MixedReward", "NodeCredit", "NoisyVerifier", "OutcomeReward",
    "OverlongPenalty", "ProcessReward", "ReasoningReward", "ReleasedReward", "ReleasedTextReward", "Reward", "RewardError",
    "StepCredit", "StrictReward", "WeightedSum", "earn", "score",
]  # fmt: skip

# class paths of older configs: one module per class
for _names, _module in {
    ("mixed", "outcome", "process", "strict"): reward,
    ("format", "length"): penalties,
    ("step_credit",): credit,
}.items():
    sys.modules |= {f"{__name__}.{_name}": _module for _name in _names}
