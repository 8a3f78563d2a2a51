"""`python main.py export RUN`: write a run's model again as a Hugging Face folder that means the same in every library.

For runs of earlier versions, whose folders other libraries misread, and for single checkpoints.
"""

import re
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from callbacks.files import new_folder, write_text
from callbacks.records.model_card import model_card
from datamodules.problems.mixture import Cell
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.tokenizer import stop_ids
from lightning_modules.models.folder import write_folder
from lightning_modules.models.sharding import weights_digest
from lightning_modules.rollout import SamplingParams
from recipes.trained.trained_model import Kind, open_run, run_of, settings_of, weights_of
from recipes.trajectory import is_hugging_face

# files of a model and its tokenizer
WRITTEN = re.compile(r".*\.(json|safetensors|jinja|model)|README\.md|(merges|vocab)\.txt")


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="interplay export", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, a Hugging Face folder, or a .ckpt file of a run")
    parser.add_argument("--out", type=Path, help="the folder to write (default: RUN/huggingface)")
    args = parser.parse_args(argv)
    if args.out is None and not (args.run / "config.yaml").is_file():
        raise ValueError(f"export: {args.run} is not the folder of a run; name the folder to write by --out.")
    out = args.out or args.run / "huggingface"
    if out.exists() and not _replaceable(out):
        raise ValueError(f"export: {out} holds something else than a model, which would be lost; name another folder by --out.")
    export(args.run, out)
    print(f"{out} holds {weights_of(args.run)} as other libraries read it")
    return 0


def _replaceable(out: Path) -> bool:
    """Whether a folder is empty or what `export` writes: the files of a model and no folders."""
    held = list(out.iterdir()) if out.is_dir() else [out]
    return not held or (is_hugging_face(out) and all(path.is_file() and WRITTEN.fullmatch(path.name) for path in held))


def export(run: Path, out: Path) -> None:
    """Write what `run` holds to the folder `out`, which may be where it is read from."""
    trained = open_run(run)
    weights = weights_of(run)
    settings = settings_of(weights, "model")
    sampling = SamplingParams(**(settings.get("evaluation") or {}).get("sampling", {}))
    model, tokenizer = trained.model, trained.tokenizer
    facts = {"weights": weights_digest(model), "init_from": settings.get("init_from"), "example": _example(trained.kind)}
    with new_folder(out) as folder:
        write_folder(
            folder, model.config, model.state_dict(), tokenizer, stop_ids(tokenizer), sampling.as_generation_config(), facts
        )
    write_text(out / "README.md", model_card(out, run_of(weights)))


def _example(kind: Kind) -> Mapping[str, Any]:
    """A problem of the kind that the model was trained on; an invented one if that is unknown."""
    if not kind.contexts:
        text = "The number of roses equals 3. The number of ferns equals the number of roses."
        return {"problem": text, "question": "How many ferns are there?", "modulus": None}
    example = Synthesis(None, kind.graph).example("validation", 0, Cell(4, kind.contexts[0], kind.modes[0]))
    return {"problem": example.problem.strip(), "question": example.question, "modulus": example.graph.modulus}
