"""Which values of a study's files are wanted, as numbers over its seeds; shared by figures and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.report.sourced_numbers import Files, Number, Term, pointer
from recipes.report.studies import Group, Run, StageFiles, Study

GRADER = "executable"
Terms = Sequence[Term]


@dataclass(frozen=True)
class Values:
    """A study and its files."""

    study: Study
    files: Files

    def number(self, group: Group, pick: Callable[[Run], Terms], *, share: bool = True) -> Number | None:
        """A value of every run of a group, as one number."""
        return self.files.number([pick(run) for run in group.runs], share=share)

    def found(self, group: Group, *keys: str | int) -> Number | None:
        """What the last stage's evaluation holds under nested keys."""
        return self.number(group, lambda run: [Term(1, run.last.evaluation, pointer(*keys))])

    def grade(self, group: Group, dimension: str, name: str, metric: str, grader: str = GRADER) -> Number | None:
        """Pass@k of a band, an op, a context, a cell."""
        return self.found(group, "grades", dimension, name, grader, metric, "mean")

    def title(self, group: Group) -> str:
        """A group's label; where others have more seeds, how many it has."""
        most = max(len(of.runs) for of in self.study.groups)
        return group.label if len(group.runs) == most else f"{group.label} ({len(group.runs)} of {most} seeds)"

    def difference(self, group: Group, other: Group, key: str) -> Number | None:
        """What a group's evaluations hold under a JSON pointer less what another's do, of runs with the same seed."""
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

    def logged(self, group: Group, column: str, steps: Sequence[int], stage: Callable[[Run], StageFiles | None]) -> list[Number]:
        """Logged values at steps of a stage, where every run has them."""
        found = []
        for step in steps:
            terms = [
                [Term(1, s.path("metrics.csv"), f"{column}[step={step}]")] if (s := stage(run)) else [] for run in group.runs
            ]
            found.append(self.files.number(terms, share=False))
        return [number for number in found if number is not None]

    def names(self, dimension: str) -> list[str]:
        """Names of a dimension of grades, in the order in which files have them; operations by size."""
        names: dict[str, None] = {}
        for grades in self._grades():
            names |= dict.fromkeys(grades.get(dimension, {}))
        return sorted(names, key=int) if dimension == "op" else list(names)

    def ks(self) -> list[int]:
        """Which pass@k there are."""
        found: set[int] = set()
        for grades in self._grades():
            found |= {int(name.removeprefix("pass@")) for name in grades["all"]["all"].get(GRADER, {})}
        return sorted(found)

    def _grades(self) -> list[dict[str, Any]]:
        runs = [group.runs[0] for group in self.study.groups]
        return [found["grades"] for run in runs if (found := self.files.json(run.last.evaluation))]

    def bands(self) -> list[str]:
        """Names of bands."""
        return self.names("band")

    def is_policy(self, stage: StageFiles) -> bool:
        """Whether a stage is RL."""
        return any("train/reward" in row for row in self.files.rows(stage.path("metrics.csv"))[:1])

    def policy(self, run: Run) -> StageFiles | None:
        """The last stage of a run, if it is RL."""
        return run.last if self.is_policy(run.last) else None

    def steps(self, stage: StageFiles, column: str) -> list[int]:
        """Steps at which a column was logged."""
        return [int(row["step"]) for row in self.files.rows(stage.path("metrics.csv")) if row.get(column)]
