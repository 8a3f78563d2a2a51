"""The language model as a Hugging Face folder beside the checkpoints."""

from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn

from callbacks.files import new_folder, run_folder, write_text
from callbacks.records.model_card import model_card


class HuggingFaceExport(Callback):
    """Keep `huggingface/` in the run's folder: config.json, model.safetensors, tokenizer files; rewritten when training ends.

    Its README.md says what the model was trained on and, once these weights are evaluated, what they scored.

    Any later stage starts from it (`init_from`), and so does every tool that opens `from_pretrained` folders (docs/interop.md).
    It calls the module's `whole_weights`, `identity` and `write_folder`.

    Args:
        at_checkpoints: also keep `huggingface-stepN/` for every checkpoint.
    """

    def __init__(self, at_checkpoints: bool = False) -> None:
        self.at_checkpoints = at_checkpoints
        self.last_step = -1

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the folder of this step once, if asked for."""
        if self.at_checkpoints and trainer.global_step != self.last_step:
            self.last_step = trainer.global_step
            self._write(trainer, pl_module, f"huggingface-step{trainer.global_step}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder."""
        if not trainer.fast_dev_run:
            self._write(trainer, pl_module, "huggingface")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Describe the folder, now that the run has recorded what it took."""
        self._describe(trainer, run_folder(trainer))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the scores."""
        self._describe(trainer, run_folder(trainer).parent)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the scores, unless this is a validation in training."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._describe(trainer, run_folder(trainer).parent)

    def _describe(self, trainer: Trainer, run: Path) -> None:
        folder = run / "huggingface"
        if trainer.is_global_zero and (folder / "interplay.json").is_file():
            write_text(folder / "README.md", model_card(folder, run))

    def _write(self, trainer: Trainer, pl_module: LightningModule, name: str) -> None:
        """Every process must call this: sharded weights are gathered."""
        run, weights = run_folder(trainer), pl_module.whole_weights()
        digest = pl_module.identity()["weights"]
        if trainer.is_global_zero:
            with new_folder(run / name) as folder:
                pl_module.write_folder(folder, weights, digest)
