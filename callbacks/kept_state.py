"""Attributes of a callback that its checkpoints hold."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback


class KeptState(Callback):
    """A callback whose attributes named in `kept` are saved with every checkpoint, and restored from it.

    One that ends training says so by `done`; then a run that it ended does not go on when it is resumed.
    """

    kept: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether training should end, by the attributes that are kept."""
        return False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if an earlier part of the run was done."""
        trainer.should_stop = trainer.should_stop or self.done

    def state_dict(self) -> dict[str, Any]:
        """Attribute -> value."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        for name in self.kept:
            setattr(self, name, state[name])
