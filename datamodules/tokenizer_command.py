"""`python main.py tokenizer`: train a tokenizer on the text of a mixture and save it as a Hugging Face folder.

Training depends on how often each piece of text occurs. These counts are saved beside the tokenizer (`words.json`); training on
them (`--words`) reproduces its bytes even after the generator has changed.
"""

import json
import os
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

from rich.console import Console
from rich.progress import track
from transformers import PreTrainedTokenizerFast

from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Component, Mixture, read_mixture
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.tokenizer import Splitting, check_numbers, count_pieces, train_released, train_tokenizer

PUBLISHED_TEXT = Component("2-20", PUBLISHED, MODES)
TEXT = Component("2-20", (*PUBLISHED, "hospital_wards", "cloud_services", "mountain_orchards"), MODES)
WORDS = "words.json"
DEFAULTS = {"vocab_size": 2200, "numbers": 999, "splitting": "words", "examples": 4000}


def parse_args(argv: list[str]) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(prog="interplay tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--mixture", help="a preset's name, or a YAML list of components; default: all contexts that name places")
    source.add_argument("--words", type=Path, help=f"{WORDS} of a tokenizer to train again")
    parser.add_argument("--vocab-size", type=int, help="entries at most, special tokens included (default: 2200)")
    parser.add_argument("--numbers", type=int, help="numbers up to this, 999 at most, are one token (default: 999)")
    parser.add_argument(
        "--splitting", choices=get_args(Splitting), help="words; released: cut and trained as the "
        "paper's tokenizer, on text distributed as published (default: words)",
    )  # fmt: skip
    parser.add_argument("--examples", type=int, help="documents to train on (default: 4000)")
    args = parser.parse_args(argv)
    if given := [name for name in DEFAULTS if args.words and getattr(args, name) is not None]:
        raise ValueError(f"tokenizer: --words {args.words} has its own --{given[0].replace('_', '-')}; leave that out.")
    return Namespace(**vars(args) | {name: value for name, value in DEFAULTS.items() if getattr(args, name) is None})


def main(argv: list[str]) -> int:
    """Run the command."""
    args = parse_args(argv)
    words = read_words(args.words) if args.words else count_words(args)
    if "documents" in words:
        tokenizer = train_released(words["pieces"], words["vocab_size"], words["documents"])
    else:
        tokenizer = train_tokenizer(words["pieces"], words["vocab_size"])
    check_numbers(tokenizer, words["numbers"])
    save(args.out, tokenizer, words)
    print(f"{args.out}: {len(tokenizer)} entries, trained on {sum(words['pieces'].values())} pieces of text")
    return 0


def count_words(args: Namespace) -> dict[str, Any]:
    """Count the pieces of a mixture's text; each number counts once more, so that it becomes a token.

    Raises:
        ValueError: a setting out of range, or a mixture that cannot be read.
    """
    if not -1 <= args.numbers <= 999:
        raise ValueError(f"tokenizer: --numbers {args.numbers}: numbers above 999 are split before training; give -1 to 999.")
    check_size_of_vocabulary(args.vocab_size)
    if args.examples < 1:
        raise ValueError(f"tokenizer: --examples {args.examples} must be at least 1.")
    released = args.splitting == "released"
    mixture = Mixture(read_mixture(args.mixture) if args.mixture else [PUBLISHED_TEXT if released else TEXT])
    specs = [GraphSpec(profile="published")] if released else [GraphSpec(depth=d) for d in ((2,) if args.mixture else (2, 3))]
    # split as when the shipped tokenizers were trained
    sources = [Synthesis(mixture, replace(spec, split_by="problem")) for spec in specs]
    examples = (
        sources[i % len(sources)].example("train", i)
        for i in track(range(args.examples), "tokenizer", console=Console(stderr=True))
    )
    counts = count_pieces((example.prompt + example.response for example in examples), args.splitting)
    counts.update(f" {number}" for number in range(args.numbers + 1))
    if released:  # as after a parenthesis
        counts.update(f"{number}" for number in range(args.numbers + 1))
    ordered = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    drawn = {"documents": args.examples} if released else {}
    return {"vocab_size": args.vocab_size, "numbers": args.numbers, **drawn, "pieces": ordered}


def read_words(path: Path) -> dict[str, Any]:
    """Read the counts of an earlier training.

    Raises:
        ValueError: no such file, or one that this command did not write.
    """
    if not path.is_file():
        raise ValueError(f"tokenizer: --words {str(path)!r} does not exist.")
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:
        raise ValueError(f"{path}: not JSON: {err}") from err
    if not isinstance(words, dict) or words.keys() - {"documents"} != {"vocab_size", "numbers", "pieces"}:
        raise ValueError(f"{path}: expected an object with `vocab_size`, `numbers` and `pieces`.")
    counts = (words["vocab_size"], words["numbers"], words.get("documents", 1))
    if not all(isinstance(count, int) for count in counts) or not isinstance(words["pieces"], dict):
        raise ValueError(f"{path}: `vocab_size`, `numbers` and `documents` must be whole numbers, `pieces` an object of counts.")
    check_size_of_vocabulary(words["vocab_size"])
    return words


def check_size_of_vocabulary(entries: int) -> None:
    """Refuse a vocabulary without entries.

    Raises:
        ValueError: it has none.
    """
    if entries < 1:
        raise ValueError(f"tokenizer: --vocab-size {entries} must be at least 1.")


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, words: dict[str, Any]) -> None:
    """Write the files under other names and rename them; `tokenizer.json`, which marks a tokenizer, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".part") as part:
        (Path(part) / WORDS).write_text(json.dumps(words, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
        tokenizer.save_pretrained(part)
        for path in sorted(Path(part).iterdir(), key=lambda path: path.name == "tokenizer.json"):
            os.replace(path, folder / path.name)
