"""The report's charts, tables and verdicts show what they say, in a study written by hand in which no two values are equal."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from grammar import parse_problem, parse_response, verify
from recipes.report import figures, tables
from recipes.report.judging import judge
from recipes.report.prediction import compared
from recipes.report.samples import _answer
from recipes.report.sourced_numbers import Files, Number, Term
from recipes.report.studies import find_studies
from recipes.report.study_values import Values
from recipes.report.verdicts import Effect, judge_study, sentence_of

UNIT = 1e-5
# a value is level x weight x UNIT: levels are powers of two and weights odd primes, so no two values are equal, and no two sums
# of levels. Means over the two seeds: pretrain 1.5, plain 6, edge 24, both 96
LEVELS = {"pretrain0": 1, "pretrain1": 2, "plain0": 4, "plain1": 8, "edge0": 16, "edge1": 32, "both0": 64, "both1": 128}
ARMS = {"plain": ("pretrain", "plain"), "edge": ("pretrain", "edge"), "both": ("pretrain", "plain", "both")}
SEEDS = (0, 1)
LAST_STEP = dict.fromkeys(LEVELS, 120) | {"edge1": 60}  # of RL
LOGGED = {"train/reward": 3, "train/response_tokens": 5, "train/executable": 7, "train/answer": 11}  # weights, times the step
VALIDATED = {"pass@1/ID": 13, "pass@4/ID": 17, "pass@1/edge": 19, "pass@4/edge": 23}  # weights, times the step; every 20 steps
SPENT = 1e6  # FLOPs of a step and level, logged every 10 steps


def passes(*weights):
    return {f"pass@{k}": {"mean": weight} for k, weight in zip((1, 2, 4), weights, strict=True)}


def executable(*weights):
    return {"executable": passes(*weights)}


BANDS = {
    "ID": {
        "executable": passes(23, 29, 31), "paper": passes(37, 41, 43), "answer": passes(47, 53, 59),
        "process_accuracy": {"mean": 61}, "errors": {}, "faults": {"missing": 89, "parents": 97, "values": 101},
        "nodes": {"correct": 67, "wrong_value": 71, "wrong_parents": 73, "wrong_both": 79, "missing": 83},
    },
    "edge": {
        "executable": passes(103, 107, 109), "paper": passes(113, 127, 131), "answer": passes(137, 139, 149),
        "process_accuracy": {"mean": 151}, "errors": {}, "faults": {"missing": 181, "parents": 191, "values": 193},
        "nodes": {"correct": 157, "wrong_value": 163, "wrong_parents": 167, "wrong_both": 173, "missing": 179},
    },
}  # fmt: skip
GRADES = {
    "all": {"all": {
        "executable": passes(359, 367, 373), "answer": passes(457, 461, 463), "errors": {},
        "faults": {"missing": 439, "parents": 443, "values": 449},
    }},
    "band": BANDS,
    "op": {"2": executable(269, 271, 277), "3": executable(281, 283, 293)},
    "context": {"garden": executable(307, 311, 313), "zoo": executable(317, 331, 337)},
    "mode": {"forward": executable(347, 349, 353)},
    "cell": {
        "2/garden/forward": executable(197, 199, 211), "3/garden/forward": executable(223, 227, 229),
        "2/zoo/forward": executable(233, 239, 241), "3/zoo/forward": executable(251, 257, 263),
    },
}  # fmt: skip
COMPOSED = {
    "scaled > scaled": {"accuracy": 379, "expected": 383, "trials": 20},
    "sum > sum": {"accuracy": 389, "expected": 397, "trials": 50},
    "copied > scaled": {"accuracy": 401, "expected": 409, "trials": 3},  # withheld
    "sum > scaled": {"accuracy": 419, "expected": 421, "trials": 40},
    "scaled > sum": {"accuracy": 431, "expected": 433, "trials": 30},
}


def scaled(part, level):
    """The same with weights made values of a level; trials are counts."""
    if isinstance(part, dict):
        return {key: of if key == "trials" else scaled(of, level) for key, of in part.items()}
    return part * level * UNIT


def metrics(level, last_step):
    """What RL logged; `pretrain` logs none of it."""
    rows = [["step", *LOGGED, *(f"val/executable/{name}" for name in VALIDATED), "train/compute_flops"]]
    for step in range(1, last_step + 1):
        validated = [step * level * weight * UNIT if step % 20 == 0 else "" for weight in VALIDATED.values()]
        logged = [step * level * weight * UNIT for weight in LOGGED.values()]
        rows.append([step, *logged, *validated, step * level * SPENT if step % 10 == 0 else ""])
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def write_stage(folder, name, level):
    (folder / "test").mkdir(parents=True)
    evaluation = {"grades": scaled(GRADES, level), "skills": {"all": {"composed": scaled(COMPOSED, level)}}}
    (folder / "test/evaluation.json").write_text(json.dumps(evaluation))
    (folder / "training.json").write_text(json.dumps({"tokens": level * 7000, "seconds": level * 11}))
    spent = {"flops": level * 1e10, "nominal_flops": level * 3e10, "nominal_tokens": level * 5000}
    (folder / "compute.json").write_text(json.dumps(spent))
    if name.startswith("pretrain"):
        config = {"data": {"init_args": {"graph": {"withheld": ["copied > scaled"]}}}}
        (folder / "config.yaml").write_text(json.dumps(config))
        (folder / "metrics.csv").write_text("step,train/loss,train/tokens\n1,2.5,1000\n")
    else:
        (folder / "metrics.csv").write_text(metrics(level, LAST_STEP[name]))


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """Three arms of two seeds: RL `plain` or `edge` on one base, and `both`, which goes on from `plain`."""
    folder = tmp_path_factory.mktemp("values")
    for name, level in LEVELS.items():
        write_stage(folder / "stages" / name, name, level)
    arms = []
    for arm, chain in ARMS.items():
        for seed in SEEDS:
            stages = [{"name": s, "kind": s, "folder": f"stages/{s}{seed}", "state": "complete"} for s in chain]
            arms.append({"name": f"{arm}-seed{seed}", "values": {"data": arm}, "seed": seed, "stages": stages})
    index = {
        "recipe": "hand", "scale": "", "about": "", "about_scale": "", "figures": [], "axes": {"data": list(ARMS)}, "arms": arms,
    }  # fmt: skip
    (folder / "hand.json").write_text(json.dumps(index))
    (study,) = find_studies(folder)
    return Values(study, Files(folder))


def in_units(number):
    return round(number.value / UNIT, 6)


def drawn(chart):
    """Panel -> line -> x -> the number there, in units."""
    return {
        panel.title: {line.label: {x: in_units(number) for x, number in line.points} for line in panel.lines}
        for panel in chart.panels
    }


def leaves(part):
    if isinstance(part, dict):
        return [leaf for key, of in part.items() if key != "trials" for leaf in leaves(of)]
    return [part]


def test_no_two_values_of_the_study_are_equal(values):
    stages = [stage.evaluation for stage in values.study.stages().values()]
    found = sorted(leaf for path in stages for leaf in leaves(values.files.json(path)))
    assert len(stages) == 8 and len(found) > 600
    assert all(after - before > 1e-9 for before, after in pairwise(found))
    assert [run.seed for group in values.study.groups for run in group.runs] == [0, 1, 0, 1, 0, 1]


# charts


def test_a_difference_is_an_arm_less_the_first(values):
    """Levels 24 - 6 and 96 - 6."""
    assert drawn(figures.differences(values)) == {
        "pass@1": {"ID": {"edge": 18 * 23, "both": 90 * 23}, "edge": {"edge": 18 * 103, "both": 90 * 103}},
        "pass@4": {"ID": {"edge": 18 * 31, "both": 90 * 31}, "edge": {"edge": 18 * 109, "both": 90 * 109}},
    }


def test_a_gain_is_the_last_stage_less_the_one_that_it_started_from(values):
    """Levels 6 - 1.5, 24 - 1.5, and for `both`, which started from `plain`, 96 - 6."""

    def gains(weight):
        return {"plain": 4.5 * weight, "edge": 22.5 * weight, "both": 90 * weight}

    assert drawn(figures.gains(values)) == {
        "pass@1": {"ID": gains(23), "edge": gains(103)},
        "pass@4": {"ID": gains(31), "edge": gains(109)},
    }


def of_arms(weight):
    """A value after the last stage of each arm."""
    return {"plain": 6 * weight, "edge": 24 * weight, "both": 96 * weight}


def test_needed_steps_are_shown_under_their_status(values):
    assert drawn(figures.statuses(values)) == {
        "ID": {
            "right": of_arms(67), "wrong value": of_arms(71), "wrong parents": of_arms(73), "both wrong": of_arms(79),
            "missing": of_arms(83),
        },
        "edge": {
            "right": of_arms(157), "wrong value": of_arms(163), "wrong parents": of_arms(167), "both wrong": of_arms(173),
            "missing": of_arms(179),
        },
    }  # fmt: skip


def test_samples_are_shown_under_their_first_fault_and_right_ones_by_the_papers_grader(values):
    assert drawn(figures.faults(values)) == {
        "ID": {
            "right": of_arms(37), "missing quantities": of_arms(89), "dependency mismatch": of_arms(97),
            "wrong values": of_arms(101),
        },
        "edge": {
            "right": of_arms(113), "missing quantities": of_arms(181), "dependency mismatch": of_arms(191),
            "wrong values": of_arms(193),
        },
    }  # fmt: skip


def test_compositions_are_those_withheld_then_those_tried_most(values):
    """Of five pairs four are shown: the withheld one, of 3 trials, and those of 50, 40 and 30, not that of 20."""
    found = drawn(figures.compositions(values))
    assert list(found) == ["copied > scaled", "sum > sum", "sum > scaled", "scaled > sum"]
    assert list(found.values()) == [
        {"both steps right": of_arms(accuracy), "product of the skills'": of_arms(expected)}
        for accuracy, expected in ((401, 409), (389, 397), (419, 421), (431, 433))
    ]


def test_contexts_are_shown_by_operations_at_the_greatest_k(values):
    def lines(two, three):
        return {"plain": {2: 6 * two, 3: 6 * three}, "edge": {2: 24 * two, 3: 24 * three}, "both": {2: 96 * two, 3: 96 * three}}

    found = figures.by_op_and_context(values)
    assert drawn(found) == {"garden, forward": lines(211, 229), "zoo, forward": lines(241, 263)}
    assert found.title == "Pass@4 by operations and context" and found.panels[0].y.startswith("pass@4")


@pytest.mark.parametrize("grader", ["executable", "answer"])
def test_stages_of_rl_follow_what_was_before_rl_at_each_k(values, grader):
    def lines(weight):
        base, plain, edge, both = 1.5 * weight, 6 * weight, 24 * weight, 96 * weight
        return {"plain": {0: base, 1: plain}, "edge": {0: base, 1: edge}, "both": {0: base, 1: plain, 2: both}}

    weights = {"executable": (23, 31, 103, 109), "answer": (47, 59, 137, 149)}[grader]
    titles = ("ID, pass@1", "ID, pass@4", "edge, pass@1", "edge, pass@4")
    assert drawn(figures.across_stages(replace(values, grader=grader))) == dict(zip(titles, map(lines, weights), strict=True))


def test_a_curve_of_training_is_thinned_to_its_last_step_and_ends_where_a_seed_does(values):
    """Of 120 steps every third is drawn; a seed of `edge` ended at step 60."""
    third, shorter = range(3, 121, 3), range(3, 61, 3)
    weights = {"reward": 3, "tokens of a response": 5, "rollouts right in every step": 7, "right answers": 11}
    assert drawn(figures.rewards(values)) == {
        title: {
            "plain": {step: 6 * weight * step for step in third},
            "edge": {step: 24 * weight * step for step in shorter},
            "both": {step: 96 * weight * step for step in third},
        }
        for title, weight in weights.items()
    }


def test_validation_is_drawn_over_the_flops_spent_by_then(values):
    """A step of `plain` takes 6e6 FLOPs, the mean of its seeds; one of `edge` 24e6."""

    def lines(weight):
        return {
            "plain": {6e6 * step: 6 * weight * step for step in (20, 40, 60, 80, 100, 120)},
            "edge": {24e6 * step: 24 * weight * step for step in (20, 40, 60)},
            "both": {96e6 * step: 96 * weight * step for step in (20, 40, 60, 80, 100, 120)},
        }

    found = figures.validation(values)
    assert drawn(found) == {
        "ID, pass@1": lines(13), "ID, pass@4": lines(17), "edge, pass@1": lines(19), "edge, pass@4": lines(23),
    }  # fmt: skip
    assert {panel.x for panel in found.panels} == {"FLOPs"}


def test_compute_counts_all_stages_of_a_run(values):
    """Levels (1 + 4 + 2 + 8) / 2, (1 + 16 + 2 + 32) / 2 and (1 + 4 + 64 + 2 + 8 + 128) / 2, of 1e10 FLOPs each."""

    def lines(weight):
        return {"plain": {7.5e10: 6 * weight}, "edge": {25.5e10: 24 * weight}, "both": {103.5e10: 96 * weight}}

    assert drawn(figures.compute(values)) == {
        "ID, pass@1": lines(23), "ID, pass@4": lines(31), "edge, pass@1": lines(103), "edge, pass@4": lines(109),
    }  # fmt: skip


# tables


def test_results_are_those_of_the_grader_that_a_column_names(values):
    found = tables.results(values)
    assert found.head == [
        "arm", "band", "seeds", "executable pass@1", "executable pass@4", "paper pass@1", "paper pass@4", "answer pass@1",
        "answer pass@4", "process accuracy",
    ]  # fmt: skip
    weights = {"ID": (23, 31, 37, 43, 47, 59, 61), "edge": (103, 109, 113, 131, 137, 149, 151)}
    assert [[*row[:3], *(in_units(cell.number) for cell in row[3:])] for row in found.rows] == [
        [arm, band, "2", *(level * weight for weight in weights[band])]
        for arm, level in (("plain", 6), ("edge", 24), ("both", 96))
        for band in ("ID", "edge")
    ]


def test_the_cost_of_an_arm_is_that_of_all_its_stages_over_seeds_and_the_last_row_has_every_stage_once(values):
    """Levels as for compute; the last row's are 1 + 2 + 4 + ... + 128."""
    found = tables.cost(values)
    assert found.head == ["arm", "stages", "FLOPs as run", "nominal FLOPs", "nominal tokens", "tokens", "seconds"]
    assert [[*row[:2], *(cell.number.value for cell in row[2:])] for row in found.rows] == [
        ["plain", "pretrain > plain", 7.5e10, 22.5e10, 37_500, 52_500, 82.5],
        ["edge", "pretrain > edge", 25.5e10, 76.5e10, 127_500, 178_500, 280.5],
        ["both", "pretrain > plain > both", 103.5e10, 310.5e10, 517_500, 724_500, 1138.5],
        ["all", "each once", 255e10, 765e10, 1_275_000, 1_785_000, 2805],
    ]


def test_the_end_of_rl_is_the_mean_of_its_last_ten_steps(values):
    """Steps 111 to 120 have a mean of 115.5, the last ones of the seed that ended at 60 one of 55.5."""
    found = tables.end_of_training(values)
    assert found.head == ["arm", "reward"]
    assert [[row[0], in_units(row[1].number)] for row in found.rows] == [
        ["plain", 3 * 6 * 115.5], ["edge", 3 * (16 * 115.5 + 32 * 55.5) / 2], ["both", 3 * 96 * 115.5],
    ]  # fmt: skip


# verdicts


def test_arms_of_one_base_count_once_among_the_models_that_rl_started_from(values):
    """`plain` and `edge` share a base, `both` started from another: two models, and three are needed."""
    assert compared(values) == []


def test_the_verdict_is_on_the_band_where_arms_differ_most(values):
    """Levels 16 - 4 and 32 - 8 for `edge`, 64 - 4 and 128 - 8 for `both`."""
    found = judge_study(values).effects
    assert [(effect.what, [round(seed / UNIT, 6) for seed in effect.seeds]) for effect in found] == [
        ("edge - plain: edge pass@1", [12 * 103, 24 * 103]), ("both - plain: edge pass@1", [60 * 103, 120 * 103]),
        ("edge - plain: edge pass@4", [12 * 109, 24 * 109]), ("both - plain: edge pass@4", [60 * 109, 120 * 109]),
    ]  # fmt: skip


def test_a_sentence_counts_the_seeds_on_the_side_of_the_mean():
    number = Number(-0.4, None, None, ((Term(1, "f", "k"),),) * 3)
    below, mixed = (Effect("a - b", number, seeds, "below zero") for seeds in ((-0.3, -0.4, -0.5), (0.3, -0.7, -0.8)))
    assert sentence_of((below,), claimed=False) == "a - b is -0.40, below zero with 3 of 3 seeds."
    assert sentence_of((mixed,), claimed=False) == "a - b is -0.40, below zero with 2 of 3 seeds."


def test_planned_effects_are_corrected_for_however_many_exploratory_ones_are_measured():
    """One of four planned is there, above zero for all six seeds: p is 1/64, after Holm's method 4/64."""
    seeds = [0.2, 0.3, 0.1, 0.2, 0.4, 0.2]
    explored = [{"against": "base", "seeds": seeds, "low": 0.1, "high": 0.4} for _ in range(3)]
    primary = explored[0] | {"primary": True, "expected": "above", "margin": 0.1}
    judge([primary, *explored], planned=4)
    assert (primary["p"][0], primary["p_adjusted"][0]) == (round(1 / 64, 5), 4 / 64)
    assert primary["verdict"] == "not resolvable"
    assert [effect["verdict"] for effect in explored] == ["above zero"] * 3


# samples


def answer_of(response):
    problem = "The number of roses equals 3. The number of oaks equals the number of roses. "
    problem += "The number of ferns equals 2 times the number of oaks."
    report = verify(parse_response(response), parse_problem(problem, "How many ferns are there?"))
    kept = json.loads(json.dumps(report.to_dict()))
    return _answer({"response": response, "report": kept, "sample": 0, "accepted": {}})


def test_every_error_of_a_response_is_shown_those_without_a_step_too():
    found = answer_of("Define roses as A; so A = 3. </solution> <answer> 5 </answer>")
    assert found["errors"] == [
        "answer: 5 is wrong: the answer is 6", "missing: 'oaks' is never defined", "missing: 'ferns' is never defined",
    ]  # fmt: skip
    assert [part["right"] for part in found["parts"] if "right" in part] == [True]


def test_a_step_with_two_errors_gives_the_first_as_its_reason_and_both_are_shown():
    steps = "Define roses as A; so A = 3. Define oaks as B; so B = 4. Define ferns as C; so C = 2 * B = 2 * 4 = 8."
    found = answer_of(f"{steps} </solution> <answer> 6 </answer>")
    value, parents = "'oaks' is 3, not 4", "'oaks' is made of 'roses', not of none"
    assert found["errors"] == [f"value: {value}", f"parents: {parents}", "value: 'ferns' is 6, not 8"]
    assert [part["why"] for part in found["parts"] if "right" in part] == ["", value, "'ferns' is 6, not 8"]
