"""Distances between tokens that training covers, and those that evaluation asks for: `python -m benchmarks.distances`.

With documents of a row apart, no token attends further back than its document's start; where later documents see earlier ones, up
to the start of the row. For each setting: lengths of pre-training documents (op 2-10, as the mixture draws them), the longest
distance trained, and the share of documents of harder bands that are longer. Writes docs/paper/distances.json.
"""

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, quantiles

from datamodules.problems.context import PUBLISHED
from datamodules.problems.graph_spec import GraphSpec, Profile
from datamodules.problems.mixture import Component, Mixture, read_mixture, with_modes
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.documents import encode
from datamodules.rows.tokenizer import load_tokenizer

OUT = Path("docs/paper/distances.json")
ROW = 2048
HARDER = {"op 11-14": "11-14", "op 15-20": "15-20", "op 20": "20"}
# name -> profile, tokenizer, modes, whether documents of a row are apart
SETTINGS: Mapping[str, tuple[Profile, str, str, bool]] = {
    "our defaults (before)": ("plain", "published", "forward", True),
    "scale paper_forward": ("published", "released", "forward", False),
    "scale paper_clean": ("published", "released", "as_paper", True),
    "scale paper": ("published", "released", "as_paper", False),
}


def lengths(mixture: Mixture, profile: Profile, tokenizer: str, count: int) -> list[int]:
    """Tokens of the first documents of a mixture, EOS included."""
    synthesis = Synthesis(mixture, GraphSpec(profile=profile))
    documents = encode([synthesis.example("train", i) for i in range(count)], load_tokenizer(tokenizer))
    return [len(document.ids) for document in documents]


def measure(profile: Profile, tokenizer: str, modes: str, apart: bool, count: int) -> dict[str, float]:
    """A row of the table."""
    trained = lengths(Mixture(read_mixture(f"pretrain_20_30_50@{modes}")), profile, tokenizer, count)
    longest = max(trained) - 1 if apart else ROW - 1
    found = {"mean": mean(trained), "median": quantiles(trained, n=2)[0], "99%": quantiles(trained, n=100)[-1]}
    found |= {"longest distance": longest}
    share = {"2-100": 0.0 if modes == "forward" else 0.5}  # evaluation asks half of its problems in reverse
    for name, ops in HARDER.items():
        mixture = Mixture(with_modes([Component(ops, PUBLISHED)], share))
        found[f"{name} longer"] = mean(length - 1 > longest for length in lengths(mixture, profile, tokenizer, count // 4))
    return {name: round(value, 3) for name, value in found.items()}


def markdown(found: Mapping[str, Mapping[str, float]]) -> str:
    """The table of docs/paper.md."""
    columns = list(next(iter(found.values())))
    lines = [f"| setting | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in found.items():
        cells: Sequence[str] = [f"{row[c]:.2f}" if c.endswith("longer") else f"{row[c]:.0f}" for c in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Draws, measures, writes, prints."""
    parser = ArgumentParser(prog="python -m benchmarks.distances", description=__doc__)
    parser.add_argument("--documents", type=int, default=2000, help="of pre-training; a quarter of each harder band")
    args = parser.parse_args()
    found = {name: measure(*setting, args.documents) for name, setting in SETTINGS.items()}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(markdown(found))


if __name__ == "__main__":
    main()
