"""Figures of training: rewards, what validation saw on the way, what it cost, compositions of skills."""

from collections.abc import Callable

from recipes.report.chart import Chart
from recipes.report.figures import (
    RIGHT,
    Maker,
    against_axis,
    bars,
    by_op,
    by_op_and_context,
    chart,
    differences,
    gains,
    likelihood,
    line,
    panel,
    pass_at_k,
    pass_at_k_by_context,
    statuses,
    topology,
)  # fmt: skip
from recipes.report.sourced_numbers import Term
from recipes.report.studies import Group, Run, StageFiles
from recipes.report.study_values import GRADER, Terms, Values

MOST_STEPS = 50  # points of a training curve


def thinned(steps: list[int]) -> list[int]:
    """At most `MOST_STEPS` of the steps, evenly, the last among them."""
    stride = -(-len(steps) // MOST_STEPS)
    return steps[::-1][::stride][::-1]


def rewards(values: Values) -> Chart | None:
    """Rewards of rollouts by step of RL."""
    columns = {"train/reward": "reward", f"train/{GRADER}": "rollouts right in every step", "train/answer": "right answers"}
    panels = []
    for column, title in columns.items():
        lines = [line(values.title(g), _curve(values, g, column, values.policy)) for g in values.study.groups]
        panels.append(panel(title, "update", "mean over rollouts", lines, share=column != "train/reward"))
    return chart(
        "rewards", "Rollouts in training", "The mean of each rollout, over seeds; prompts are those of training.", panels
    )


def _curve(values: Values, group: Group, column: str, stage: Callable[[Run], StageFiles | None]) -> list[tuple[float, object]]:
    first = stage(group.runs[0])
    if first is None:
        return []
    steps = thinned(values.steps(first, column))
    points = ((step, values.logged(group, column, [step], stage)) for step in steps)
    return [(step, found[0]) for step, found in points if found]


def ladder(values: Values) -> Chart | None:
    """What validation saw in pre-training."""
    groups = {group.runs[0].stages[0].folder: group for group in reversed(values.study.groups)}
    group = list(groups.values())[-1]
    first = group.runs[0].stages[0]
    columns = values.files.rows(first.path("metrics.csv"))[:1]
    found = [name for name in (columns[0] if columns else {}) if name.startswith(f"val/{GRADER}/pass@") and "/op" in name]
    panels = []
    for k in dict.fromkeys(name.split("/")[2] for name in found):
        names = [name for name in found if name.split("/")[2] == k]
        lines = [line(name.rpartition("/")[2], _curve(values, group, name, lambda run: run.stages[0])) for name in names]
        panels.append(panel(k, "update", RIGHT, [of for of in lines if of and len(of.points) > 1]))
    note = f"Validation in training, by operations; the pre-training of arm {group.label}."
    return chart("ladder", "Pre-training, operation by operation", note, panels)


def compute(values: Values) -> Chart | None:
    """Results against FLOPs, all stages of a run together."""

    def flops(group: Group) -> float | None:
        number = values.number(group, lambda run: [Term(1, s.path("compute.json"), "/flops") for s in run.stages], share=False)
        return number and number.value

    ks = values.ks()
    panels = []
    for band in values.bands():
        for k in dict.fromkeys((ks[0], ks[-1])):
            points = [(flops(g), g) for g in values.study.groups]
            lines = [x and line(values.title(g), [(x, values.grade(g, "band", band, f"pass@{k}"))]) for x, g in points]
            panels.append(panel(f"{band}, pass@{k}", "FLOPs as run", RIGHT, lines))
    note = (
        "One mark an arm, whiskers: 95% intervals. FLOPs of training, all stages of a run, those that arms share counted in each."
    )
    return chart("compute", "Results against compute", note, panels) if len(values.study.groups) > 1 else None


def compositions(values: Values) -> Chart | None:
    """Accuracy of compositions of two skills beside what the skills themselves promise."""
    panels = []
    for pair in _pairs(values):
        lines = [
            line(label, ((values.title(g), values.found(g, "skills", "all", "composed", pair, key)) for g in values.study.groups))
            for label, key in (("both steps right", "accuracy"), ("product of the skills'", "expected"))
        ]
        panels.append(panel(pair, "", "share of trials", lines, kind="bar"))
    note = (
        "A > B: B reads what A computes; trials have right inputs from elsewhere. Product: the two skills' own accuracies "
        "multiplied. Withheld compositions first."
    )
    return chart("compositions", "Compositions of two skills", note, panels)


def _pairs(values: Values, most: int = 4) -> list[str]:
    """Withheld compositions, then those that were tried most often."""
    trials: dict[str, float] = {}
    withheld: dict[str, None] = {}
    for group in values.study.groups:
        for stage in group.runs[0].stages:
            withheld |= dict.fromkeys(withheld_of(values, stage))
        found = values.files.json(group.runs[0].last.evaluation) or {}
        for pair, counts in found.get("skills", {}).get("all", {}).get("composed", {}).items():
            trials[pair] = trials.get(pair, 0) + counts["trials"]
    return list(dict.fromkeys([*withheld, *sorted(trials, key=lambda pair: -trials[pair])]))[:most]


def withheld_of(values: Values, stage: StageFiles) -> list[str]:
    """Compositions that a stage's training does not have."""
    config = values.files.yaml(stage.path("config.yaml")) or {}
    return list(config.get("data", {}).get("init_args", {}).get("graph", {}).get("withheld") or ())


def reward_parts(values: Values, run: Run, last: int = 10) -> dict[str, Terms]:
    """Name of each part of the reward -> its mean over the last logged rollouts."""
    stage = values.policy(run)
    if stage is None:
        return {}
    columns = [c for c in values.files.rows(stage.path("metrics.csv"))[0] if c.startswith("train/reward")]
    found = {}
    for column in columns:
        steps = values.steps(stage, column)[-last:]
        found[column] = [Term(1 / len(steps), stage.path("metrics.csv"), f"{column}[step={step}]") for step in steps]
    return found


# in the order in which a report shows them, unless a recipe names figures
MAKERS = (
    Maker((), differences),
    Maker((3,), pass_at_k), Maker((12, 13), pass_at_k_by_context), Maker((6,), by_op), Maker((4,), by_op_and_context),
    Maker((5,), topology), Maker((7,), bars), Maker((8,), statuses), Maker((9,), ladder), Maker((10,), likelihood),
    Maker((11, 14, 16, 17), rewards), Maker((15,), gains), Maker((18,), against_axis), Maker((18,), compute),
    Maker((), compositions),
)  # fmt: skip
