"""What models read."""

from datamodules.midtraining import MidtrainDataModule
from datamodules.pretraining import PretrainDataModule
from datamodules.reinforcement import PromptDataModule

__all__ = ["MidtrainDataModule", "PretrainDataModule", "PromptDataModule"]
