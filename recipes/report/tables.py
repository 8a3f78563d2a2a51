"""Tables of a study: results, cells, errors, the end of RL, cost. A cell is a text or a number with its sources."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from recipes.report.prediction import correlations
from recipes.report.scaling import fits
from recipes.report.sourced_numbers import Number, Term
from recipes.report.studies import Group, StageFiles
from recipes.report.study_values import GRADER, Values

Form = Literal["share", "count", "flops", "plain"]
RELEASED = "released"
FORMATS: dict[Form, str] = {"share": ".3f", "count": ",.0f", "flops": ".2e", "plain": ".3g"}


@dataclass(frozen=True)
class Shown:
    """A number and how it is written."""

    number: Number
    form: Form = "share"

    @property
    def text(self) -> str:
        """The number as people read it."""
        return format(self.number.value, FORMATS[self.form])

    @property
    def interval(self) -> str:
        """Its interval, or nothing."""
        how = FORMATS[self.form]
        return "" if self.number.low is None else f"[{self.number.low:{how}}, {self.number.high:{how}}]"


@dataclass(frozen=True)
class Table:
    """Rows under a head; `folded` ones are opened on demand."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Shown | None]]
    folded: bool = True
    note: str = ""


def tables(values: Values) -> list[Table]:
    """Those that a study has rows for."""
    found = (
        results(values), disagreements(values), cells(values), errors(values), end_of_training(values), scaling(values),
        prediction(values), cost(values),
    )  # fmt: skip
    return [table for table in found if table.rows]


def show(number: Number | None, form: Form = "share") -> Shown | None:
    """A cell of a number that may be missing."""
    return None if number is None else Shown(number, form)


def _by_band(values: Values, shown: Callable[[Group, str], Sequence[str | Shown | None]]) -> list[list[str | Shown | None]]:
    """A row for each arm and band."""
    return [[group.label, band, *shown(group, band)] for group in values.study.groups for band in values.bands()]


def results(values: Values) -> Table:
    """Arm x band."""
    known = any(RELEASED in values.evaluation(group)["grades"]["all"]["all"] for group in values.study.groups)
    graders = (GRADER, "paper", *([RELEASED] if known else []), "answer")
    columns = [(grader, k) for grader in graders for k in values.ends()]

    def shown(group: Group, band: str) -> list[str | Shown | None]:
        grades = [show(values.grade(group, "band", band, f"pass@{k}", grader)) for grader, k in columns]
        return [str(len(group.runs)), *grades, show(values.found(group, "grades", "band", band, "process_accuracy", "mean"))]

    head = ["arm", "band", "seeds", *(f"{grader} pass@{k}" for grader, k in columns), "process accuracy"]
    note = (
        "executable: every step true, in order, grounded in the problem; paper: every needed step with the right value and "
        "parents; answer: the final number. In brackets 95% intervals: over seeds, or with one seed over problems."
    )
    return Table("Results", head, _by_band(values, shown), folded=False, note=note)


def cells(values: Values) -> Table:
    """Operations x context x mode, for each arm."""
    rows: list[list[str | Shown | None]] = []
    for cell in sorted(values.names("cell"), key=_place):
        op, _, rest = cell.partition("/")
        context, _, mode = rest.rpartition("/")
        for group in values.study.groups:
            shown = [show(values.grade(group, "cell", cell, f"pass@{k}")) for k in values.ends()]
            if any(shown):
                rows.append([op, context, mode, group.label, *shown])
    head = ["operations", "context", "mode", "arm", *(f"{GRADER} pass@{k}" for k in values.ends())]
    return Table("By operations, context and mode", head, rows)


def _place(cell: str) -> tuple[int, str]:
    op, _, rest = cell.partition("/")
    return int(op), rest


def disagreements(values: Values) -> Table:
    """What each cause of disagreement between graders adds to the difference of their pass@1."""
    every = [values.evaluation(group)["grades"]["all"]["all"].get("disagreements", {}) for group in values.study.groups]
    causes = dict.fromkeys((pair, cause) for of in every for pair, found in of.items() for cause in found)

    def shown(group: Group, band: str) -> list[str | Shown | None]:
        return [show(values.found(group, "grades", "band", band, "disagreements", *cause)) for cause in causes]

    head = ["arm", "band", *(cause if pair == RELEASED else f"{pair}: {cause}" for pair, cause in causes)]
    note = (
        "Shares of samples; each counts under its first fault, so that the causes of a pair add up to the difference of its two "
        "graders in pass@1. released: the published scorer, which is neither stricter nor laxer than `paper`, hence both ways."
    )
    return Table("Where graders disagree", head, _by_band(values, shown) if causes else [], note=note)


def errors(values: Values) -> Table:
    """Share of samples with an error of each kind."""
    kinds = dict.fromkeys(kind for g in values.study.groups for kind in values.evaluation(g)["grades"]["all"]["all"]["errors"])
    rows = _by_band(values, lambda g, band: [show(values.found(g, "grades", "band", band, "errors", kind)) for kind in kinds])
    return Table("Kinds of errors", ["arm", "band", *kinds], rows, note="Share of samples that have an error of the kind.")


def end_of_training(values: Values) -> Table:
    """Rewards, and whether they vary, at the end of RL."""
    names = dict.fromkeys(name for group in values.study.groups for name in values.end_of_training(group.runs[0]))

    def cell(group: Group, name: str) -> Shown | None:
        return show(values.number(group, lambda run: values.end_of_training(run).get(name, ()), share=False), "plain")

    rows: list[list[str | Shown | None]] = [
        [group.label, *(cell(group, name) for name in names)] for group in values.study.groups
    ]
    head = ["arm", *(name.removeprefix("train/") for name in names)]
    note = (
        "Means over the last ten logged rollouts; parts add up to the reward. zero_variance: share of groups whose completions "
        "all earn the same; explained_variance: by PPO's critic."
    )
    return Table("The end of RL", head, [row for row in rows if any(row[1:])], note=note)


def scaling(values: Values) -> Table:
    """Log-linear fits of the gain of RL against its FLOPs."""
    rows: list[list[str | Shown | None]] = [
        [
            fit.label, str(len(fit.groups)), band, f"pass@{k}", *(show(term, "plain") for term in fit.terms),
            *([None] * (3 - len(fit.terms))), fit.formula,
        ]
        for band in values.bands() for k in values.ends() for fit in fits(values, band, k)
    ]  # fmt: skip
    head = ["arms", "number", "band", "k", "gain at C0", "per tenfold FLOPs", "per tenfold parameters", "gain ="]
    note = (
        "Least squares over arms, seed by seed. C: FLOPs of RL as run, C0 their geometric mean. All arms: with the logarithm of "
        "parameters as a third term, which the formula leaves out."
    )
    return Table("Gain of RL against its FLOPs", head, rows, note=note)


def prediction(values: Values) -> Table:
    """Rank correlations of what is measured before RL with its gain."""

    def written(*numbers: float | None) -> str:
        return "" if None in numbers else ", ".join(f"{number:+.2f}" for number in numbers)

    rows = [
        [
            of.quantity, of.band, f"pass@{of.k}", str(len(of.values)), str(sum(map(len, of.values.values()))),
            written(of.overall), written(of.within), written(of.low, of.high),
        ]
        for band in values.bands() for of in correlations(values, band)
    ]  # fmt: skip
    head = ["before RL", "band", "gain in", "arms", "runs", "rho of all runs", "rho within seeds", "95%"]
    note = (
        "Spearman's rank correlation with the gain of RL, over runs that end in equally long RL; within seeds: over arms "
        "of a seed, mean and interval over seeds. Pass@k before RL also enters the gain, which pulls its rho below zero."
    )
    return Table("What before RL predicts its gain", head, rows, note=note)


def cost(values: Values) -> Table:
    """The cost of each arm, all its stages together, and the nominal cost by the paper's formula."""
    columns: dict[str, tuple[str, str, Form]] = {
        "FLOPs as run": ("compute.json", "/flops", "flops"), "nominal FLOPs": ("compute.json", "/nominal_flops", "flops"),
        "nominal tokens": ("compute.json", "/nominal_tokens", "count"), "tokens": ("training.json", "/tokens", "count"),
        "seconds": ("training.json", "/seconds", "count"),
    }  # fmt: skip

    def shown(runs: Sequence[Sequence[StageFiles]]) -> list[Shown | None]:
        return [
            show(values.files.number([[Term(1, s.path(file), key) for s in stages] for stages in runs], share=False), form)
            for file, key, form in columns.values()
        ]

    rows: list[list[str | Shown | None]] = [
        [group.label, " > ".join(s.name for s in group.runs[0].stages), *shown([run.stages for run in group.runs])]
        for group in values.study.groups
    ]
    rows.append(["all", "each once", *shown([list(values.study.stages().values())])])
    note = (
        "A row counts all stages of an arm, shared ones too; the last row every stage of all arms and seeds once. Tokens: "
        "trained on; of RL, sampled. Nominal: samples as long as the model's context (a budget may name another length). "
        "Seconds: of training, by the clock."
    )
    return Table("Cost", ["arm", "stages", *columns], rows, note=note)
