"""The language model as a Hugging Face folder beside the checkpoints."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.files import new_folder


class HuggingFaceExport(Callback):
    """Keep `huggingface/` in the run's folder: config.json, model.safetensors, tokenizer files; renewed when training ends.

    Any later stage starts from it (`init_from`), and so does every tool that opens `from_pretrained` folders.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder; it appears when it is complete."""
        if trainer.is_global_zero and trainer.log_dir:
            with new_folder(Path(trainer.log_dir) / "huggingface") as folder:
                pl_module.language_model.save_pretrained(folder)
                trainer.datamodule.tokenizer.save_pretrained(folder)
