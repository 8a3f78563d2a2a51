"""What a run left: its language model with the tokenizer, and the kind of problems that it trained on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import yaml
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from callbacks.files import read_json
from callbacks.records.checkpoint import step_of
from datamodules.problems.context import load_context
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, components_of
from datamodules.rows.tokenizer import load_tokenizer
from datamodules.rows.vocabulary import entries_in_use
from lightning_modules.models.language_model import open_weights
from recipes.earlier_keys import renamed
from recipes.trajectory import is_hugging_face

WANTED = "give a run's folder, a Hugging Face folder or a .ckpt file"


@dataclass(frozen=True)
class Kind:
    """A kind of problems; without contexts nothing is known of it.

    contexts, modes: their names.
    graph:           the shape of their graphs.
    """

    contexts: tuple[str, ...] = ()
    modes: tuple[str, ...] = MODES[:1]
    graph: GraphSpec = GraphSpec()
    shown: int | None = None  # modulus of the problem that an exported folder shows; known if no context is

    @property
    def modulus(self) -> int | None:
        """What they compute modulo; None: plain integers.

        Raises:
            ValueError: some contexts compute otherwise than others.
        """
        moduli = {load_context(name).modulus for name in self.contexts}
        if len(moduli) > 1:
            raise ValueError(
                f"the run's contexts {', '.join(self.contexts)} compute modulo different numbers; say which by --context."
            )
        return moduli.pop() if moduli else self.shown


class Trained(NamedTuple):
    """A language model in evaluation mode, its tokenizer, and the kind of problems of its run."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind


def open_run(run: Path) -> Trained:
    """Open what a run left.

    Args:
        run: a run's folder, a Hugging Face folder, or a `.ckpt` (file, or folder of shards). A run's config.yaml is read from
            the folder that holds it, or holds its `checkpoints/`.

    Raises:
        ValueError: there is no model of this project, or no tokenizer for it.
    """
    disable_progress_bar()
    weights = weights_of(run)
    with _reading(run):
        model, vocabulary = open_weights(weights)
    data = settings_of(weights, "data")
    tokenizer = _tokenizer(weights, data)
    if vocabulary is not None:
        vocabulary.check(tokenizer, str(run))
    if entries_in_use(tokenizer, model.config.vocab_size) > model.config.vocab_size:
        raise ValueError(f"the tokenizer of {run} has {len(tokenizer)} entries, its model {model.config.vocab_size}.")
    return Trained(model.eval(), tokenizer, replace(kind_of(data), shown=_shown_modulus(weights)))


def _shown_modulus(weights: Path) -> int | None:
    facts = weights / "interplay.json"
    return (read_json(facts).get("example") or {}).get("modulus") if facts.is_file() else None


@contextmanager
def _reading(run: Path) -> Iterator[None]:
    """Turn what libraries raise for files that are no model into one line."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, UnpicklingError, EOFError, LookupError, TypeError, SafetensorError) as err:
        reason = str(err).partition("\n")[0].partition(". ")[0] or type(err).__name__
        raise ValueError(f"{run} cannot be opened as a model: {reason}; {WANTED}.") from err


def weights_of(run: Path) -> Path:
    """Where a run's weights are: in its `huggingface/`, else the newest of its `checkpoints/`.

    Raises:
        ValueError: there are none.
    """
    if not run.exists():
        raise ValueError(f"{run} does not exist; {WANTED}.")
    if run.is_file() or is_hugging_face(run) or (run / "meta.pt").is_file():
        return run
    if is_hugging_face(run / "huggingface"):
        return run / "huggingface"
    with _reading(run):
        checkpoints = sorted((run / "checkpoints").glob("*.ckpt"), key=step_of)
    if not checkpoints:
        inside = ", ".join(sorted(path.parent.name for path in run.glob("*/huggingface")))
        hint = f"it holds the runs {inside}, name one of them" if inside else WANTED
        raise ValueError(f"{run} has neither huggingface/ nor checkpoints; {hint}.")
    return checkpoints[-1]


def run_of(weights: Path) -> Path:
    """The folder of the run that left `weights`."""
    folder = weights.resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def settings_of(weights: Path, part: str) -> dict[str, Any]:
    """`init_args` of the model or data in the config.yaml of the run that left `weights`; empty if there is none."""
    path = run_of(weights) / "config.yaml"
    if not path.is_file():
        return {}
    try:
        return renamed(yaml.safe_load(path.read_text(encoding="utf-8")))[part]["init_args"] or {}
    except (yaml.YAMLError, LookupError, TypeError) as err:
        raise ValueError(f"{path} is not the config of a run: it has no `{part}.init_args`.") from err


def _tokenizer(weights: Path, data: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    name = str(weights) if (weights / "tokenizer.json").is_file() else data.get("tokenizer")
    if name is None:
        raise ValueError(f"{weights} has no tokenizer.json, and no config.yaml of a run is beside it; {WANTED}.")
    return load_tokenizer(name)


def kind_of(data: Mapping[str, Any]) -> Kind:
    """The kind of problems of a run.

    Args:
        data: `data.init_args` of its config.

    Raises:
        ValueError: settings that this version does not know.
    """
    try:
        contexts, modes = _names(data.get("held_out") or {}, data.get("mixture") or [])
        spec = GraphSpec(**(data.get("graph") or {}))
    except (TypeError, AttributeError) as err:
        raise ValueError(f"the run's config.yaml has other settings of problems than this version: {err}.") from err
    return Kind(contexts, modes, spec)


def _names(held_out: Mapping[str, Any], mixture: str | Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Contexts and modes of held-out problems; if those come from files, of the mixture."""
    if held_out.get("contexts"):
        return tuple(held_out["contexts"]), tuple(held_out.get("modes") or MODES[:1])
    parts = components_of(mixture)
    contexts = dict.fromkeys(name for part in parts for name in part.contexts)
    modes = dict.fromkeys(name for part in parts for name in part.modes)
    return tuple(contexts), tuple(modes or MODES[:1])
