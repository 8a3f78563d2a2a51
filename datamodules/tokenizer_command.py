"""`python main.py tokenizer`: train a tokenizer on the text of a mixture and save it as a Hugging Face folder."""

from argparse import ArgumentParser
from pathlib import Path

from datamodules.mixture import Component, Mixture, read_mixture
from datamodules.synthesis import Synthesis
from datamodules.tokenizer import train_tokenizer

PUBLISHED = [Component("2-20", ("crazy_zootopia", "teachers_in_school", "movie_festival_awards"))]


def main(argv: list[str]) -> int:
    """Run the command."""
    parser = ArgumentParser(prog="python main.py tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--mixture", help="a preset's name, or a YAML list of components; default: the published data")
    parser.add_argument("--vocab-size", type=int, default=2200, help="entries at most, special tokens included")
    parser.add_argument("--examples", type=int, default=20_000, help="documents to train on")
    args = parser.parse_args(argv)
    synthesis = Synthesis(Mixture(read_mixture(args.mixture) if args.mixture else PUBLISHED))
    examples = (synthesis.example("train", i) for i in range(args.examples))
    tokenizer = train_tokenizer((e.prompt + e.response for e in examples), args.vocab_size)
    tokenizer.save_pretrained(args.out)
    print(f"{args.out}: {len(tokenizer)} entries, trained on {args.examples} documents")
    return 0
