"""Data of mid-training: as pre-training, on a mixture that keeps a share of what the model knows."""

from datamodules.pretraining import PretrainDataModule


class MidtrainDataModule(PretrainDataModule):
    """PretrainDataModule whose `mixture` narrows to new problems and replays a share of the old ones."""
