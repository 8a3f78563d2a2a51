"""Mid-training: the objective of pre-training on narrowed data, from the weights of an earlier stage, with a fresh optimiser."""

from typing import Any

from lightning_modules.pretrain import PretrainModule


class MidtrainModule(PretrainModule):
    """PretrainModule that starts from `init_from`."""

    def __init__(self, init_from: str, **settings: Any) -> None:
        """Keep the settings; see PretrainModule.

        Args:
            init_from: a Hugging Face folder, or a `.ckpt` of one of our modules.
            settings: those of PretrainModule; there is no `architecture` to give.
        """
        super().__init__(None, init_from=init_from, **settings)
