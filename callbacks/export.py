"""The language model as a Hugging Face folder beside the checkpoints."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.files import new_folder, run_folder


class HuggingFaceExport(Callback):
    """Keep `huggingface/` in the run's folder: config.json, model.safetensors, tokenizer files; renewed when training ends.

    Any later stage starts from it (`init_from`), and so does every tool that opens `from_pretrained` folders.
    """

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the folder; it appears when it is complete."""
        run = run_folder(trainer)
        if trainer.is_global_zero and not trainer.fast_dev_run:
            with new_folder(run / "huggingface") as folder:
                pl_module.language_model.save_pretrained(folder)
                trainer.datamodule.tokenizer.save_pretrained(folder)
