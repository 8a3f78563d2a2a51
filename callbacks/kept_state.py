"""Attributes of a callback that its checkpoints hold."""

from typing import Any

from lightning.pytorch.callbacks import Callback


class KeptState(Callback):
    """A callback whose attributes named in `kept` are saved with every checkpoint, and restored from it."""

    kept: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Attribute -> value."""
        return {name: getattr(self, name) for name in self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        for name in self.kept:
            setattr(self, name, state[name])
