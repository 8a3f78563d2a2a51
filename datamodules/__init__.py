"""Data of all stages."""

import sys

from datamodules.pretraining import MidtrainDataModule, PretrainDataModule
from datamodules.reinforcement import PromptDataModule

__all__ = ["MidtrainDataModule", "PretrainDataModule", "PromptDataModule"]

# a class path of older configs
sys.modules[f"{__name__}.midtraining"] = sys.modules[f"{__name__}.pretraining"]
