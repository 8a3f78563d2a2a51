"""What models read."""

import sys

from datamodules.pretraining import MidtrainDataModule, PretrainDataModule
from datamodules.reinforcement import PromptDataModule

__all__ = ["MidtrainDataModule", "PretrainDataModule", "PromptDataModule"]

# a class path of configs written before there were rooms
sys.modules[f"{__name__}.midtraining"] = sys.modules[f"{__name__}.pretraining"]
