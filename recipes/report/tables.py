"""Tables of a study: results, cells, errors, reward parts, cost. A cell is a text or a number with its sources."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from recipes.report.sourced_numbers import Number, Term
from recipes.report.studies import Group, Run
from recipes.report.study_values import GRADER, Values
from recipes.report.training_figures import reward_parts

Form = Literal["share", "count", "flops", "plain"]
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
    found = (results(values), cells(values), errors(values), parts(values), cost(values))
    return [table for table in found if table.rows]


def show(number: Number | None, form: Form = "share") -> Shown | None:
    """A cell of a number that may be missing."""
    return None if number is None else Shown(number, form)


def results(values: Values) -> Table:
    """Arm x band."""
    ks = values.ks()
    columns = [(grader, k) for grader in (GRADER, "paper", "answer") for k in dict.fromkeys((ks[0], ks[-1]))]
    rows = []
    for group in values.study.groups:
        for i, band in enumerate(values.bands()):
            cells = [show(values.grade(group, "band", band, f"pass@{k}", grader)) for grader, k in columns]
            process = show(values.found(group, "grades", "band", band, "process_accuracy", "mean"))
            rows.append([group.label if i == 0 else "", band, str(len(group.runs)), *cells, process])
    head = ["arm", "band", "seeds", *(f"{grader} pass@{k}" for grader, k in columns), "process accuracy"]
    note = (
        "executable: every step true, in order, grounded in the problem; paper: every needed step with the right value and "
        "parents; answer: the final number. In brackets 95% intervals: over seeds, or with one seed over problems."
    )
    return Table("Results", head, rows, folded=False, note=note)


def cells(values: Values) -> Table:
    """Operations x context x mode, for each arm."""
    ks = values.ks()
    rows = []
    for cell in sorted(values.names("cell"), key=_place):
        op, _, rest = cell.partition("/")
        context, _, mode = rest.rpartition("/")
        for group in values.study.groups:
            shown = [show(values.grade(group, "cell", cell, f"pass@{k}")) for k in dict.fromkeys((ks[0], ks[-1]))]
            if any(shown):
                rows.append([op, context, mode, group.label, *shown])
    head = ["operations", "context", "mode", "arm", *(f"{GRADER} pass@{k}" for k in dict.fromkeys((ks[0], ks[-1])))]
    return Table("By operations, context and mode", head, rows)


def _place(cell: str) -> tuple[int, str]:
    op, _, rest = cell.partition("/")
    return int(op), rest


def errors(values: Values) -> Table:
    """Share of samples with an error of each kind."""
    kinds: dict[str, None] = {}
    for group in values.study.groups:
        found = values.files.json(group.runs[0].last.evaluation)
        kinds |= dict.fromkeys(found["grades"]["all"]["all"]["errors"])
    rows = [
        [group.label if i == 0 else "", band, *(show(values.found(group, "grades", "band", band, "errors", k)) for k in kinds)]
        for group in values.study.groups for i, band in enumerate(values.bands())
    ]  # fmt: skip
    return Table("Kinds of errors", ["arm", "band", *kinds], rows, note="Share of samples that have an error of the kind.")


def parts(values: Values) -> Table:
    """What rewards were made of at the end of RL."""
    names = dict.fromkeys(name for group in values.study.groups for name in reward_parts(values, group.runs[0]))

    def cell(group: Group, name: str) -> Shown | None:
        number = values.files.number([reward_parts(values, run).get(name, ()) for run in group.runs], share=False)
        return show(number, "plain")

    rows = [[group.label, *(cell(group, name) for name in names)] for group in values.study.groups]
    head = ["arm", *(name.removeprefix("train/") for name in names)]
    rows = [row for row in rows if any(row[1:])]
    return Table("Reward and its parts", head, rows, note="Means over the last ten logged rollouts; parts add up to the reward.")


def _whole(values: Values, file: str, key: str, form: Form) -> Shown | None:
    """A sum over the stages of a study, each once."""
    terms = [Term(1, stage.path(file), key) for stage in values.study.stages().values()]
    return show(values.files.number([terms], share=False), form)


def cost(values: Values) -> Table:
    """What each arm cost, all its stages together, and the nominal cost by the paper's formula."""
    keys = (("compute.json", "/flops", "flops"), ("compute.json", "/nominal_flops", "flops"),
            ("compute.json", "/nominal_tokens", "count"), ("training.json", "/tokens", "count"),
            ("training.json", "/seconds", "count"))  # fmt: skip

    def cell(group: Group, file: str, key: str, form: Form) -> Shown | None:
        def pick(run: Run) -> list[Term]:
            return [Term(1, stage.path(file), key) for stage in run.stages]

        return show(values.number(group, pick, share=False), form)

    rows = [
        [group.label, " > ".join(stage.name for stage in group.runs[0].stages), *(cell(group, *key) for key in keys)]
        for group in values.study.groups
    ]
    rows.append(["all", "each once", *(_whole(values, *key) for key in keys)])
    head = ["arm", "stages", "FLOPs as run", "nominal FLOPs", "nominal tokens", "tokens", "seconds"]
    note = (
        "All stages of a run, those that arms share counted in each; last, those of all arms and seeds, each once. Tokens: "
        "trained on; of RL, sampled. Nominal: samples as long as the model's context (a budget may name another length). "
        "Seconds: of training, by the clock."
    )
    return Table("Cost", head, rows, note=note)
