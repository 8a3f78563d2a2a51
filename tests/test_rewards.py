"""Rewards: what a report is worth, against reports written by hand and responses really judged."""

import sys

import pytest
from grammar_cases import rows
from jsonargparse import ArgumentParser

from grammar import Report, parse_response, verify, write_solution
from grammar.checking.report import NodeVerdict
from grammar.reading.trace import StepError
from lightning_modules.rewards import (
    FormatPenalty,
    LengthPenalty,
    MixedReward,
    NoisyVerifier,
    OutcomeReward,
    ProcessReward,
    ReleasedReward,
    ReleasedTextReward,
    Reward,
    StrictReward,
    WeightedSum,
)


@pytest.fixture
def gold(synthesis):
    """A right response and the graph that it solves."""
    example = next(e for i in range(50) if len((e := synthesis.example("train", i)).graph.order) >= 4)
    solution = example.solution[: example.solution.rindex("Answer:")].strip()
    return f"{solution} </solution> <answer> {example.graph.answer} </answer>", example.graph


def judged(response, graph) -> Report:
    return verify(parse_response(response), graph)


def report_of(*statuses) -> Report:
    """A report as written by hand, with the right answer and an empty trace."""
    nodes = tuple(NodeVerdict(f"node {i}", status) for i, status in enumerate(statuses))
    share = statuses.count("correct") / len(statuses)
    errors = () if share == 1 else (StepError("value", 0, "wrong", 0, 1),)
    return Report(7, True, nodes, share, errors, parse_response(""))


def test_a_right_response_earns_everything(gold):
    response, graph = gold
    report = judged(response, graph)
    for reward in (OutcomeReward(), ProcessReward(), MixedReward(), StrictReward("executable"), ReleasedReward(strict=True)):
        assert sum(reward(response, report).values()) == pytest.approx(1.0)
    assert FormatPenalty()(response, report) == {"format": 0.0}


def test_a_wrong_answer_after_right_steps(gold):
    response, graph = gold
    wrong = response.replace(f"> {graph.answer} <", f"> {graph.answer + 1} <")
    report, nodes = judged(wrong, graph), len(graph.order)
    assert ProcessReward()(wrong, report) == {"process": 1.0}
    assert MixedReward(alpha=0.3)(wrong, report) == {"outcome": 0.0, "process": pytest.approx(0.7)}
    for reward in (OutcomeReward(), MixedReward(gated=True), StrictReward(), ReleasedReward()):
        assert sum(reward(wrong, report).values()) == 0.0
    assert ReleasedReward(gated=False)(wrong, report)["process"] == pytest.approx(0.8 * (1 - 1 / nodes))


def test_a_missing_step_costs_its_share(gold):
    response, graph = gold
    steps = response.split(". ")
    short = ". ".join(steps[1:])
    report = judged(short, graph)
    missing = sum(node.status == "missing" for node in report.nodes)
    assert missing == 1
    assert ProcessReward()(short, report)["process"] == pytest.approx(
        sum(node.status == "correct" for node in report.nodes) / len(report.nodes)
    )


def test_the_released_penalty_counts_each_mismatch():
    response = ""
    report = report_of("correct", "wrong_value", "wrong_both", "missing", "correct", "correct", "correct", "correct")
    assert ReleasedReward()(response, report) == {"outcome": pytest.approx(0.2), "process": pytest.approx(0.8 * (1 - 4 / 8))}
    assert sum(ReleasedReward(1.0, 0.0, strict=True)(response, report).values()) == 0.0
    wrong = report._replace(answer_correct=False)
    assert sum(ReleasedReward()(response, wrong).values()) == 0.0
    assert ReleasedReward(1, 1, gated=False)(response, wrong) == {"outcome": 0.0, "process": pytest.approx(0.5 * (1 - 5 / 8))}


def test_the_released_penalty_counts_extra_nodes_up_to_the_number_of_gold_ones(gold):
    response, graph = gold
    trace = judged(response, graph).trace
    assert len(trace.steps) >= 4
    report = report_of("correct", "correct")._replace(trace=trace)  # every step of it is an extra one
    assert ReleasedReward()(response, report)["process"] == 0.0
    roomy = report_of(*["correct"] * 20)._replace(trace=trace)
    extra = len({step.name for step in trace.steps})
    assert ReleasedReward()(response, roomy)["process"] == pytest.approx(0.8 * (1 - extra / 20))


@pytest.mark.parametrize(("words", "penalty"), [(0, 0), (10, 0), (15, -1), (20, -2), (500, -2)])
def test_length_is_free_then_linear_then_flat(gold, words, penalty):
    report = judged(*gold)
    assert LengthPenalty(free=10, limit=20, weight=2.0)("w " * words, report) == {"length": pytest.approx(penalty)}


@pytest.mark.parametrize(
    "spoil", [lambda r: r.replace("Define", "Defines", 1), lambda r: r[: r.rindex("<answer>")], lambda r: ""]
)
def test_a_response_that_cannot_be_read_costs_the_format_penalty(gold, spoil):
    response, graph = spoil(gold[0]), gold[1]
    assert FormatPenalty(0.3)(response, judged(response, graph)) == {"format": -0.3}


def test_a_sum_names_and_weighs_its_parts(gold):
    response, graph = gold
    total = WeightedSum({"mix": MixedReward(0.2), "brief": LengthPenalty(0, 1)}, {"brief": 0.5})
    parts = total(response, judged(response, graph))
    assert parts == {"mix/outcome": pytest.approx(0.2), "mix/process": pytest.approx(0.8), "brief/length": -0.5}


def noisy_share(reward, response, report, count=4000) -> float:
    """Share of responses that differ in one word whose reward is 1."""
    return sum(sum(reward(f"{response} {i}", report).values()) == 1.0 for i in range(count)) / count


def test_noise_errs_at_the_rates_asked_for(gold):
    response, graph = gold
    right, wrong = judged(response, graph), judged("", graph)
    noisy = NoisyVerifier(StrictReward("executable"), false_accept=0.1, false_reject=0.3)
    assert noisy_share(noisy, response, right) == pytest.approx(0.7, abs=0.03)
    assert noisy_share(noisy, "", wrong) == pytest.approx(0.1, abs=0.02)


def test_noise_is_the_same_each_time_and_another_by_seed(gold):
    response, graph = gold
    report = judged(response, graph)

    def fates(seed):
        noisy = NoisyVerifier(OutcomeReward(), false_reject=0.5, seed=seed)
        return [noisy(f"{response} {i}", report)["noise"] for i in range(64)]

    assert fates(0) == fates(0) != fates(1)
    assert set(fates(0)) == {0.0, -1.0}


def test_without_noise_the_reward_is_untouched(gold):
    response, graph = gold
    report = judged(response, graph)
    assert NoisyVerifier(MixedReward())(response, report) == MixedReward()(response, report) | {"noise": 0.0}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ReleasedReward(0, 0), "weights"), (lambda: LengthPenalty(5, 5), "free < limit"),
        (lambda: FormatPenalty(-1), "at least 0"), (lambda: WeightedSum({}), "rewards"),
        (lambda: WeightedSum({"a": OutcomeReward()}, {"b": 1.0}), "'b'"), (lambda: NoisyVerifier(OutcomeReward(), 2.0), "within"),
        (lambda: MixedReward(2.0), "alpha"),
    ],
)  # fmt: skip
def test_settings_without_sense_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_reward_of_ones_own_needs_one_file(tmp_path, monkeypatch, gold):
    (tmp_path / "brevity.py").write_text(
        "from lightning_modules.rewards import Reward\n\n\n"
        "class Brevity(Reward):\n"
        "    def __init__(self, steps: int) -> None:\n        self.steps = steps\n\n"
        "    def __call__(self, response, report):\n"
        "        return {'brief': float(len(report.trace.steps) <= self.steps)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--reward", type=Reward)
    config = """{"class_path": "WeightedSum", "init_args": {"weights": {"mine": 0.5}, "rewards": {
        "mine": {"class_path": "brevity.Brevity", "init_args": {"steps": 99}}, "answer": {"class_path": "OutcomeReward"}}}}"""
    reward = parser.instantiate_classes(parser.parse_args([f"--reward={config}"])).reward
    assert reward(gold[0], judged(*gold)) == {"mine/brief": 0.5, "answer/outcome": 1.0}
    sys.modules.pop("brevity")


def test_rewards_on_texts_are_those_that_the_published_code_was_recorded_to_give():
    """Oracle: the scores recorded beside each candidate; an answer with a leading zero alone is judged otherwise."""
    blend, strict = ReleasedTextReward(), ReleasedTextReward(answer_weight=1.0, process_weight=0.0, strict=True)
    by_grader, checked = StrictReward("released"), 0
    for row in rows("verdicts"):
        if row["kind"] == "answer_format:lead0":
            continue
        right = parse_response(row["candidate"]).answer == int(row["gold_answer"])
        report = report_of("wrong_both")._replace(answer_correct=right)
        for reward, recorded in ((blend, "score"), (strict, "score_strict"), (by_grader, "strict")):
            parts = reward.beside(row["gold_solution"])(row["candidate"], report)
            assert sum(parts.values()) == pytest.approx(float(row[recorded])), (row["vid"], recorded)
        checked += 1
    assert checked > 200


def test_a_sum_hands_the_gold_solution_to_its_parts_and_others_are_unchanged(gold):
    response, graph = gold
    plain = WeightedSum({"outcome": OutcomeReward()})
    assert plain.beside("") is plain
    both = WeightedSum({"outcome": OutcomeReward(), "as_released": StrictReward("released")}, {"outcome": 0.5})
    found = both.beside(write_solution(graph))(write_solution(graph), judged(response, graph))
    assert found == {"outcome/outcome": 0.5, "as_released/strict": 1.0}


def test_a_verifier_that_errs_needs_a_reward_that_reads_verdicts():
    with pytest.raises(ValueError, match="take a reward of verdicts"):
        NoisyVerifier(ReleasedTextReward())
    with pytest.raises(ValueError, match="beside"):
        ReleasedTextReward()("", report_of("correct"))
