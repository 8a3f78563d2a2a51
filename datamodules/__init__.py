"""What models read."""

from datamodules.pretraining import MidtrainDataModule, PretrainDataModule
from datamodules.reinforcement import PromptDataModule

__all__ = ["MidtrainDataModule", "PretrainDataModule", "PromptDataModule"]
