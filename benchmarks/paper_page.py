"""The generated parts of docs/paper.md and docs/data.md, from docs/paper/* and docs/data/*: `python -m benchmarks.paper_page`.

A part stands between `<!-- NAME -->` and `<!-- /NAME -->`. Figures come from figures.yaml and the recipes that name them; tables
from the JSON that `benchmarks.disagreements`, `distances`, `exchange` and `topology` left; modes from the lengths measured of
gold solutions.
"""

import json
import re
from pathlib import Path
from statistics import mean

import yaml

from benchmarks import disagreements, distances, exchange

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs/paper"
LENGTHS, CLOSE = ("problem words", "solution words"), 0.05  # the statistics that are not fitted; how near the others should be
PAGES = {"docs/paper.md": ("figures", "modes", "exchange", "distances", "disagreements"), "docs/data.md": ("topology",)}
TABLES = {"Table 3": ("compute_split", "compute_split_shared")}  # recipes of tables; those of figures name them
# tokens of gold solutions under the published tokenizer, op 2-20, and the lengths of responses that Figure 11 shows in RL
FORWARD = (63, 88, 95, 108, 128, 152, 168, 186, 201, 220, 228, 248, 270, 296, 304, 319, 346, 343, 371)
REVERSE = (191, 217, 231, 256, 269, 294, 319, 339, 365, 381, 399, 423, 451, 465, 493, 509, 529, 563, 571)
RESPONSES = {"7-10": (245, 260), "9-12": (280, 292), "11-14": (280, 330)}


def recipes() -> dict[str, list[str]]:
    """Figure or table -> its recipes, with their arms."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "configs/recipe").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if text.startswith("# Beyond the paper"):
            continue
        raw = yaml.safe_load(text)
        axes = [values if isinstance(values, str) else ", ".join(map(str, values)) for values in raw.get("arms", {}).values()]
        said = f"`{path.stem}` ({'; '.join(axes)})"
        for number in raw.get("figures", ()):
            found.setdefault(f"Figure {number}", []).append(said)
        for table, names in TABLES.items():
            if path.stem in names:
                found.setdefault(table, []).append(said)
    return found


def figures() -> str:
    """A section for each figure."""
    by_figure, lines = recipes(), []
    for entry in yaml.safe_load((KEPT / "figures.yaml").read_text(encoding="utf-8")):
        lines += [f"### {entry['number']}: {entry['shows']}", ""]
        lines += [f"- {key}: {entry[key]}" for key in ("paper", "code", "ours", "effect")]
        lines += [f"- recipe: {', '.join(by_figure[entry['number']])}"] if entry["number"] in by_figure else []
        lines.append("")
    return "\n".join(lines).strip()


def modes() -> str:
    """Shares of reverse problems that would give the lengths of responses that the paper shows."""
    lines = [
        "| RL on op | forward alone | reverse alone | half of each | paper shows | share of reverse |",
        "|---|---|---|---|---|---|",
    ]
    for ops, (low, high) in RESPONSES.items():
        first, last = map(int, ops.split("-"))
        forward, reverse = (sum(of[first - 2 : last - 1]) / (last - first + 1) for of in (FORWARD, REVERSE))
        shares = [(shown - forward) / (reverse - forward) for shown in (low, high)]
        cells = (ops, *(f"{value:.0f}" for value in (forward, reverse, (forward + reverse) / 2)), f"{low}-{high}")
        lines.append(f"| {' | '.join(cells)} | {shares[0]:.2f}-{shares[1]:.2f} |")
    return "\n".join(lines)


def topology() -> str:
    """Total variation of the profile's problems from published ones, by mode and band."""
    found = json.loads((ROOT / "docs/data/topology.json").read_text(encoding="utf-8"))
    names = list(dict.fromkeys(name for group in found.values() for name in group))
    lines = [
        "Total variation of fresh draws of `published` from published rows / what as many rows of the very same distribution",
        "exceed one time in twenty, by sampling alone (in brackets: of `plain`). Bold: not explained by sampling.", "",
    ]  # fmt: skip
    lines += [f"| mode and op | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for group, of in found.items():
        cells = [_apart(of[name]) if name in of else "" for name in names]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _together(found)])


def _together(found: dict) -> str:
    fitted, lengths = (
        [of for group in found.values() for name, of in group.items() if (name in LENGTHS) == words] for words in (False, True)
    )
    above = [of for of in fitted if of["variation"]["profile"] > CLOSE]
    below = sum(of["variation"]["profile"] < of["sampling"]["mean"] for of in above)
    apart, alone = mean(of["variation"]["profile"] for of in lengths), mean(of["sampling"]["mean"] for of in lengths)
    return (
        f"Of {len(fitted)} distances of fitted statistics {len(fitted) - len(above)} are at most {CLOSE}; of the other "
        f"{len(above)}, {below} are less than sampling alone gives on average. Numbers of words are {apart:.3f} off on average, "
        f"where sampling alone gives {alone:.3f}."
    )


def _apart(found: dict) -> str:
    apart, alone = found["variation"], found["sampling"]["95%"]
    text = f"{apart['profile']:.2f} / {alone:.2f} ({apart['plain']:.2f})"
    return f"**{text}**" if apart["profile"] > max(alone, CLOSE) else text


def _kept(name: str) -> dict:
    return json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))


MAKERS = {
    "figures": figures, "modes": modes, "topology": topology,
    "disagreements": lambda: disagreements.markdown(_kept("disagreements")),
    "distances": lambda: distances.markdown(_kept("distances")),
    "exchange": lambda: exchange.markdown(json.loads((ROOT / exchange.OUT).read_text(encoding="utf-8"))),
}  # fmt: skip


def filled(page: str) -> str:
    """A page's text with all its parts as they are now.

    Raises:
        ValueError: the page has no place for one.
    """
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in PAGES[page]:
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page}: no place <!-- {name} --> ... <!-- /{name} -->; add it.")
        part = MAKERS[name]()
        text = pattern.sub(lambda match, part=part: f"{match[1]}\n{part}\n\n{match[2]}", text)
    return text


if __name__ == "__main__":
    for page in PAGES:
        (ROOT / page).write_text(filled(page), encoding="utf-8")
        print(page)
