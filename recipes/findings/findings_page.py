"""The page of findings, and its pictures."""

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from callbacks.text_tables import align
from recipes.report.chart import save
from recipes.report.judging import is_compared

COUNT, WIDTH = ".0f", 140
UNREAD = "(The text that stood here was written for other numbers.)"
# verdict (its first words) -> colour, marker of the mean; distinct without colour, too
LOOKS = {
    "reproduced": ("#0072B2", "o"), "not reproduced": ("#D55E00", "X"), "not resolvable": ("#6b6b6b", "s"),
    "reproduced, but small": ("#56B4E9", "o"), "above zero": ("#0072B2", "^"), "below zero": ("#D55E00", "v"),
    "open": ("#6b6b6b", "D"),
}  # fmt: skip
WANTED = {"above": "> 0", "below": "< 0", "same": "= 0"}


def style(effect: dict[str, Any], digits: int) -> str:
    """The format of an effect's values: counts whole, differences and correlations with their sign."""
    return COUNT if effect.get("at", "").endswith("/trials") else f"{'+' if is_compared(effect) else ''}.{digits}f"


def table(effects: list[dict[str, Any]]) -> str:
    """A row for each effect, the primary ones first."""
    rows = [["effect", "expected", "ours", "95% interval", "seeds", "beyond margin", "p", "says"]]
    for e in sorted(effects, key=lambda effect: not effect.get("primary")):
        what = ("* " if e.get("primary") else "") + e["what"]
        if "value" not in e:
            rows.append([what, _wanted(e), "-", "-", "-", "-", "-", "not measured"])
            continue
        how = style(e, 3)
        ends = "-" if e["low"] is None else f"[{max(e['low'], 0.0) if how == COUNT else e['low']:{how}}, {e['high']:{how}}]"
        seeds = " ".join(format(value, style(e, 2)) for value in e["seeds"])
        p = "/".join(f"{value:.3f}" for value in e.get("p_adjusted", ()))
        count, *share = e.get("beyond", [""])
        beyond = f"{count} of {len(e['seeds'])} [{share[0]:.2f}, {share[1]:.2f}]" if share else ""
        rows.append([what, _wanted(e), format(e["value"], how), ends, seeds, beyond, p, e.get("verdict", "")])
    return align(rows)


def _wanted(effect: dict[str, Any]) -> str:
    """What is claimed, with the margin; for a share of seeds, what counts."""
    if "at_least" in effect:
        return f"seeds >= {effect['at_least']}"
    return f"{WANTED[effect['expected']]} ({effect['margin']})" if effect.get("primary") else ""


def _list(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def at_equal_bases(effects: Sequence[dict[str, Any]]) -> list[str]:
    """The intervals that primary differences would have with all bases at their mean level (`exact_tests.adjusted_for`)."""
    found = [
        f"{e['what']} [{adjusted['low']:+.3f}, {adjusted['high']:+.3f}], slope {adjusted['slope']:+.2f}"
        for e in effects
        if (adjusted := e.get("adjusted"))
    ]
    said = "Were all bases at their mean level (least squares on the base's value; exploratory): "
    return [_filled(said + "; ".join(found) + ".")] if found else []


NAMED = re.compile(r"\{([^}]+)\}")  # an effect, in a text


def key_of(claim: dict[str, Any], effects: list[dict[str, Any]]) -> str:
    """Key of what a claim's answer and reading were written for: the primary effects, and those that they name."""
    named = set(NAMED.findall(claim.get("answer", "") + claim.get("reading", "")))
    return sha256(table([e for e in effects if e.get("primary") or e["what"] in named]).encode()).hexdigest()[:8]


def reading(text: str, effects: list[dict[str, Any]]) -> str:
    """A text with `{WHAT}` replaced by the value of the effect of that name, marked `*` if it is primary.

    Raises:
        ValueError: there is no such effect, or it was not measured.
    """
    values = {e["what"]: format(e["value"], style(e, 2)) + ("\\*" if e.get("primary") else "") for e in effects if "value" in e}

    def filled(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise ValueError(f"claims.yaml: a reading names {match[1]!r}, which was not measured; choose among {sorted(values)}.")
        return values[match[1]]

    return NAMED.sub(filled, text.strip())


def interim(planned: Sequence[int], effects: Sequence[dict[str, Any]]) -> list[str]:
    """What a finding says while a primary effect lacks planned seeds."""
    there = min((len(effect.get("seeds", ())) for effect in effects if effect.get("primary")), default=len(planned))
    if there >= len(planned):
        return []
    return [f"**Not complete: {there} of {len(planned)} planned seeds. No verdict is final before all are there.**"]


def read(claim: dict[str, Any], effects: list[dict[str, Any]], part: str = "reading") -> list[str]:
    """The text that reads a finding's numbers (or its `answer`, a sentence), if one was written for these."""
    if part not in claim:
        return []
    return [reading(claim[part], effects) if claim.get("reading_of") == key_of(claim, effects) else UNREAD]


def answers(claims: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """What the study says to each question, a sentence each, as a list in Markdown."""
    found = {name: _answer(claim, measured[name]) for name, claim in claims["findings"].items() if name in measured}
    return [_filled(f"- {said}", "  ") for one in found.values() for said in one]


def _answer(claim: dict[str, Any], found: dict[str, Any]) -> list[str]:
    said = [text for text in read(claim, found["effects"], "answer") if text != UNREAD]
    return [_filled(f"**{claim['question']}** {text}") for text in said]


def _filled(text: str, indent: str = "") -> str:
    return fill(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def section(name: str, claim: dict[str, Any], found: dict[str, Any], shared: int, scale: str) -> list[str]:
    """The finding on a claim: its answer, its effects as a picture and a table, their reading, and the runs behind them."""
    verdicts = Counter(effect["verdict"] for effect in found["effects"] if effect.get("primary") and "verdict" in effect)
    made, seconds, compared = found["environment"], found["seconds"], any("verdict" in effect for effect in found["effects"])
    commits = ", ".join(commit[:7] + commit[40:] for commit in made["commits"])
    packages = {"Python": made["python"], **made["versions"]}
    versions = ", ".join(f"{name} {' and '.join(of)}" for name, of in packages.items())
    seeds, threads = _list(made["seeds"]), _list(made["threads"])
    return [
        *_answer(claim, found),
        *([f"![differences between arms of {name}](figures/{name}-effects.png)"] if compared else []),
        _claim(claim),
        f"Primary: {', '.join(f'{count} {verdict}' for verdict, count in verdicts.most_common()) or 'none measured'}.",
        f"```\n{table(found['effects'])}\n```",
        *at_equal_bases(found["effects"]),
        *read(claim, found["effects"]),
        f"`python main.py run configs/recipe/{name}.yaml --scale {scale} --seed {seeds} --out runs/study` at {commits}: "
        f"{len(seconds)} stages ({shared} of them also of other findings), {sum(seconds.values()) / 60:.0f} minutes; threads: "
        f"{threads}; {_machines(made['machines'])}. {versions}.",
    ]  # fmt: skip


def page(claims: dict[str, Any], measured: dict[str, Any]) -> str:
    """The findings as Markdown."""
    parts = [claims["about"].strip()]
    if not measured:
        parts.append("The study has not been run yet: below are its claims.")
    stages = {stage: seconds for found in measured.values() for stage, seconds in found["seconds"].items()}
    users = Counter(stage for found in measured.values() for stage in found["seconds"])
    if stages:
        hours, least, most = sum(stages.values()) / 3600, min(stages.values()) / 60, max(stages.values()) / 60
        parts.append(
            f"All {len(stages)} stages, each run once, took {hours:.1f} hours of training and testing by the clock; "
            f"{least:.1f} to {most:.1f} minutes each. {_competence(measured)}".strip()
        )
    if found := answers(claims, measured):
        parts.append("\n".join(["## In short\n", *found]))
    for name, claim in claims["findings"].items():
        parts.append(f"## {claim['title']}")
        if name in measured:
            parts += interim(claim.get("seeds", claims["seeds"]), measured[name]["effects"])
            parts += section(
                name, claim, measured[name], sum(users[stage] > 1 for stage in measured[name]["seconds"]), claims["scale"]
            )
        else:
            parts += [_claim(claim), "Not measured yet."]
    return "\n\n".join(parts) + "\n"


def _machines(machines: dict[str, list[str]]) -> str:
    """The machines, each with its arms if there are several."""
    return "; ".join(machine if len(machines) == 1 else f"{machine}: {', '.join(arms)}" for machine, arms in machines.items())


def _claim(claim: dict[str, Any]) -> str:
    return f"Claim: {claim['claim'].strip()}"


def _competence(measured: dict[str, Any]) -> str:
    """How many bases were pre-trained until they were able, and how many were not."""
    bases = {stage: reached for found in measured.values() for stage, reached in found.get("competent", {}).items()}
    missed = sorted(stage for stage, reached in bases.items() if not reached)
    if not bases:
        return ""
    end = "" if not missed else f"; at the cap, and counted all the same: {', '.join(missed)}"
    return f"Bases whose pre-training ended by competence: {len(bases) - len(missed)} of {len(bases)}{end}. {_outside(measured)}"


def _outside(measured: dict[str, Any]) -> str:
    """How many bases of the study the gate of the pilot would not have let pass, by bound."""
    bases = {stage: bounds for found in measured.values() for stage, bounds in found.get("outside", {}).items()}
    if not (outside := Counter(bound for bounds in bases.values() for bound in bounds)):
        return ""
    by_bound = ", ".join(f"{bound}: {count}" for bound, count in outside.most_common())
    return (
        f"The gate bounds the bases of the pilot and chooses none of the study's: of {len(bases)} with its bands and size, "
        f"{sum(map(bool, bases.values()))} lie outside it ({by_bound}), and are counted."
    )


def draw_forest(effects: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw differences between arms (or correlations), each with its interval, every seed's value and the expectation, as a PNG.

    Args:
        effects: with `what`, `value`, `low`, `high`, `seeds` and `verdict`; primary ones with `expected` and `margin`.
        path: of the picture.
    """
    figure = Figure(figsize=(9, 1.1 + 0.42 * len(effects)), layout="constrained")
    axis = figure.subplots()
    for row, effect in enumerate(effects):
        label = effect["verdict"]
        colour, marker = LOOKS[label]
        if effect["low"] is not None:
            axis.plot([effect["low"], effect["high"]], [row, row], color=colour, linewidth=2)
        axis.plot(effect["seeds"], [row] * len(effect["seeds"]), "|", color="black", markersize=9, alpha=0.7)
        axis.plot(effect["value"], row, marker, color=colour, markersize=8, label=label, linestyle="none")
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(
        range(len(effects)), [f"{e['what']}  {_wanted(e) and f'(claimed {_wanted(e)})'}" for e in effects], fontsize=9
    )
    axis.set_ylim(len(effects) - 0.5, -0.5)
    axis.set_xlabel("difference (or correlation); line: 95% interval over seeds, ticks: each seed")
    axis.grid(axis="x", alpha=0.3)
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    save(figure, path)
