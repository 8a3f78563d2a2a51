"""Values of a study's files as numbers over its seeds; shared by figures, tables and findings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import mean
from typing import Any

from recipes.report.sourced_numbers import Files, Number, Term, pointer
from recipes.report.studies import Group, Run, StageFiles, Study

GRADER = "executable"
ACCEPTED = {  # grader -> what its share of samples or problems is, for axes
    "answer": "right answers", "paper": "right by the paper's grader", "executable": "every step right",
    "released": "accepted by the published scorer",
}  # fmt: skip
VARIANCE = ("train/zero_variance", "train/explained_variance")
Terms = Sequence[Term]


@dataclass(frozen=True)
class Values:
    """A study and its files; pass@k is by `grader` unless another is asked for."""

    study: Study
    files: Files
    grader: str = GRADER

    @property
    def accepted(self) -> str:
        """What the grader accepts, in words."""
        return ACCEPTED[self.grader]

    def number(self, group: Group, pick: Callable[[Run], Terms], *, share: bool = True) -> Number | None:
        """A value of every run of a group, as one number."""
        return self.files.number([pick(run) for run in group.runs], share=share)

    def found(self, group: Group, *keys: str | int) -> Number | None:
        """The value under nested keys of the last stage's evaluation."""
        return self.number(group, lambda run: [Term(1, run.last.evaluation, pointer(*keys))])

    def grade(self, group: Group, dimension: str, name: str, metric: str, grader: str = "") -> Number | None:
        """Pass@k of a band, an op, a context, a cell; by another grader than the study's, if one is named."""
        return self.found(group, "grades", dimension, name, grader or self.grader, metric, "mean")

    def title(self, group: Group) -> str:
        """A group's label, with its number of seeds if others have more."""
        most = max(len(of.runs) for of in self.study.groups)
        return group.label if len(group.runs) == most else f"{group.label} ({len(group.runs)} of {most} seeds)"

    def difference(self, group: Group, other: Group, key: str) -> Number | None:
        """The value under a JSON pointer of a group's evaluations less that of another's, over runs with the same seed."""
        evaluations = {run.seed: run.last.evaluation for run in other.runs}

        def pick(run: Run) -> Terms:
            found = evaluations.get(run.seed)
            return [] if found is None else [Term(1, run.last.evaluation, key), Term(-1, found, key)]

        return self.number(group, pick)

    def gain(self, group: Group, *keys: str | int, sign: float = 1, share: bool = True) -> Number | None:
        """What the last stage added to the one it started from."""

        def pick(run: Run) -> Terms:
            stages = ((sign, run.last), (-sign, run.before))
            return [Term(weight, stage.evaluation, pointer(*keys)) for weight, stage in stages if stage is not None]

        return self.number(group, lambda run: pick(run) if run.before else [], share=share)

    def logged(self, group: Group, column: str, step: int, stage: Callable[[Run], StageFiles | None]) -> Number | None:
        """The value logged at a step of a stage; None unless every run has it."""
        places = [stage(run) for run in group.runs]
        terms = [[Term(1, s.path("metrics.csv"), f"{column}[step={step}]")] if s else [] for s in places]
        number = self.files.number(terms, share=False)
        return number if number and len(number.runs) == len(group.runs) else None

    def last_logged(self, group: Group, column: str, step: int, stage: Callable[[Run], StageFiles | None]) -> float:
        """The value last logged up to a step of a stage, 0 if there is none; the mean over runs."""
        rows = [self.files.rows(found.path("metrics.csv")) for run in group.runs if (found := stage(run))]
        logged = [[float(row[column]) for row in of if row.get(column) and int(row["step"]) <= step] for of in rows]
        return mean(values[-1] if values else 0.0 for values in logged)

    def evaluation(self, group: Group) -> dict[str, Any]:
        """The last stage's evaluation of a group's first run."""
        return self.files.json(group.runs[0].last.evaluation) or {}

    def names(self, dimension: str) -> list[str]:
        """Names of a dimension of grades, in the order of the files; operations by size."""
        names = dict.fromkeys(name for grades in self._grades() for name in grades.get(dimension, {}))
        return sorted(names, key=int) if dimension == "op" else list(names)

    def bands(self) -> list[str]:
        """Names of bands."""
        return self.names("band")

    def ks(self) -> list[int]:
        """All k of pass@k."""
        return sorted(
            {int(name.removeprefix("pass@")) for of in self._grades() for name in of["all"]["all"].get(self.grader, {})}
        )

    def ends(self) -> list[int]:
        """The least k and the greatest: 1 and the number of samples."""
        ks = self.ks()
        return list(dict.fromkeys((*ks[:1], *ks[-1:])))

    def _grades(self) -> list[dict[str, Any]]:
        return [found["grades"] for group in self.study.groups if (found := self.evaluation(group))]

    def is_policy(self, stage: StageFiles) -> bool:
        """Whether a stage is RL."""
        logged = self.files.rows(stage.path("metrics.csv"))[:1]
        return bool(logged) and "train/reward" in logged[0]

    def policy(self, run: Run) -> StageFiles | None:
        """The last stage of a run, if it is RL."""
        return run.last if self.is_policy(run.last) else None

    def steps(self, stage: StageFiles, column: str) -> list[int]:
        """Steps at which a column was logged and finite."""
        rows = self.files.rows(stage.path("metrics.csv"))
        return [int(row["step"]) for row in rows if isfinite(float(row.get(column) or "nan"))]

    def end_of_training(self, run: Run, last: int = 10) -> dict[str, Terms]:
        """Rewards and `VARIANCE`, column -> its mean over the last logged rollouts of RL."""
        stage = self.policy(run)
        if stage is None:
            return {}
        found: dict[str, Terms] = {}
        for column in self.files.rows(stage.path("metrics.csv"))[0]:
            steps = self.steps(stage, column)[-last:]
            if steps and (column.startswith("train/reward") or column in VARIANCE):
                found[column] = [Term(1 / len(steps), stage.path("metrics.csv"), f"{column}[step={step}]") for step in steps]
        return found
