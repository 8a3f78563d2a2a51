"""Mid-training: the objective of pre-training on narrowed data, from the weights of an earlier stage, with a fresh optimiser."""

from lightning_modules.optimizers import OptimizerFactory
from lightning_modules.pretrain import PretrainModule
from lightning_modules.reasoner import Evaluation
from lightning_modules.schedules import Schedule


class MidtrainModule(PretrainModule):
    """PretrainModule that starts from `init_from`."""

    def __init__(
        self, init_from: str, *, optimizer: OptimizerFactory | None = None, schedule: Schedule | None = None,
        evaluation: Evaluation = Evaluation(), compile: bool = False,
    ) -> None:  # fmt: skip
        """Keep the settings.

        Args:
            init_from: a Hugging Face folder or one of our `.ckpt` files.
            optimizer: AdamW where not given.
            schedule: cosine where not given.
            evaluation: how validation, test and prediction sample.
            compile: compile the loss.
        """
        super().__init__(
            None, init_from=init_from, optimizer=optimizer, schedule=schedule, evaluation=evaluation, compile=compile
        )
