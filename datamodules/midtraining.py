"""Data of mid-training: as pre-training, on a mixture that narrows to new problems and replays a share of the old ones."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datamodules.pretraining import PretrainDataModule
from datamodules.problems.mixture import Component, components_of


class MidtrainDataModule(PretrainDataModule):
    """PretrainDataModule with replay: `mixture` for the new problems and, apart from it, `replay` for a share of old ones."""

    def __init__(
        self, mixture: str | Sequence[Component] | None = None, tokenizer: str = "published", *,
        replay: str | Sequence[Component] = (), replay_share: float = 0.0, **settings: Any,
    ) -> None:  # fmt: skip
        """Keep the settings; see PretrainDataModule.

        Args:
            mixture: new problems: components whose weights sum to 1, the name of a preset, or a YAML file.
            tokenizer: name of a shipped tokenizer, or a Hugging Face folder.
            replay: problems of earlier stages, likewise.
            replay_share: share of examples that are replayed.
            settings: those of PretrainDataModule.
        """
        if mixture is not None:
            mixture = with_replay(components_of(mixture), components_of(replay), replay_share)
        elif replay:
            raise ValueError("`data.init_args.replay` goes with a `mixture`, not with rows of `files`; leave it out.")
        super().__init__(mixture, tokenizer, **settings)


def with_replay(mixture: Sequence[Component], replay: Sequence[Component], share: float) -> list[Component]:
    """Scale two mixtures, each with weights that sum to 1, into one.

    Raises:
        ValueError: a share outside [0, 1), or a share without problems to replay, or the other way round.
    """
    if not 0 <= share < 1 or bool(replay) != (share > 0):
        raise ValueError(
            f"replay_share={share} with {len(replay)} components to replay: give `data.init_args.replay` and a share above 0 "
            "and below 1, or neither."
        )
    return [replace(c, weight=c.weight * (1 - share)) for c in mixture] + [replace(c, weight=c.weight * share) for c in replay]
