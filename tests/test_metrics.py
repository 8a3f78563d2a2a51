"""Skills, structures and likelihood, apart from any model."""

from itertools import product

import pytest
import torch
from grammar_cases import response_of, rows
from torch.nn.functional import cross_entropy

from grammar import gold_trace, parse_problem, parse_response, render_trace, verify
from lightning_modules.metrics import GoldLoss, SkillAccuracy, TopologyRows, summarise_likelihood, summarise_skills
from lightning_modules.metrics.problem_table import PLACE, ProblemTable, problem_row
from lightning_modules.metrics.skill_accuracy import SKILLS, trials
from lightning_modules.metrics.structure_similarity import (
    features,
    parents_of_problem,
    parents_of_solution,
    similarity,
    summarise_topology,
)
from lightning_modules.models.token_nll import token_nll

PROBLEM = (
    "The number of roses equals 3. The number of oaks equals the number of roses. "
    "The number of lilies equals the sum of the number of roses and the number of oaks. "
    "The number of ferns equals 2 times the number of lilies."
)
QUESTION = "How many ferns are there?"
STEPS = [
    "Define roses as A; so A = 3.", "Define oaks as B; so B = A = 3.", "Define lilies as C; so C = A + B = 3 + 3 = 6.",
    "Define ferns as D; e = C = 6; so D = 2 * e = 2 * 6 = 12.",
]  # fmt: skip


def judged(*steps: str, answer: int = 12):
    graph = parse_problem(PROBLEM, QUESTION)
    return graph, verify(parse_response(f" {' '.join(steps)} </solution> <answer> {answer} </answer>"), graph)


def named(found):
    return {(" > ".join(SKILLS[i] for i in place), right) for place, right in found}


def test_a_right_solution_is_a_success_of_each_skill_and_composition():
    assert named(trials(*judged(*STEPS))) == {
        ("given", True), ("copy", True), ("sum of 2", True), ("constant times", True), ("given > copy", True),
        ("given > sum of 2", True), ("copy > sum of 2", True), ("sum of 2 > constant times", True),
    }  # fmt: skip


def test_a_wrong_sum_is_a_failure_of_sums_and_no_trial_of_what_reads_it():
    steps = [
        *STEPS[:2],
        "Define lilies as C; so C = A + B = 3 + 3 = 7.",
        "Define ferns as D; e = C = 7; so D = 2 * e = 2 * 7 = 14.",
    ]
    assert named(trials(*judged(*steps, answer=14))) == {
        ("given", True), ("copy", True), ("sum of 2", False), ("given > copy", True), ("given > sum of 2", False),
        ("copy > sum of 2", False), ("sum of 2 > constant times", False),
    }  # fmt: skip


def test_a_missing_step_is_no_trial():
    assert named(trials(*judged(*STEPS[:2], answer=3))) == {("given", True), ("copy", True), ("given > copy", True)}


def test_a_composition_upon_wrong_inputs_is_no_trial():
    """Lilies are wrong since roses are: whether ferns compose with lilies cannot be told."""
    steps = [
        "Define roses as A; so A = 4.", "Define oaks as B; so B = A = 4.", "Define lilies as C; so C = A + B = 4 + 4 = 8.",
        "Define ferns as D; e = C = 8; so D = 2 * e = 2 * 8 = 16.",
    ]  # fmt: skip
    assert named(trials(*judged(*steps, answer=16))) == {("given", False), ("given > copy", False)}


def test_an_equation_is_tried_only_after_right_steps():
    graph = next(graph for graph in published(4, 200) if graph.unknown is not None)
    response = response_of(render_trace(gold_trace(graph)))
    start = response.index("Define")
    short = response[:start] + response[response.index("Define", start + 1) :]
    whole, part = (named(trials(graph, verify(parse_response(text), graph))) for text in (response, short))
    assert ("equation", True) in whole
    assert not any(place == "equation" for place, _ in part)


def test_accuracy_of_a_composition_stands_beside_the_product_of_its_skills():
    graph, right = judged(*STEPS)
    wrong = judged(*STEPS[:2], "Define lilies as C; so C = A + B = 3 + 3 = 7.", answer=7)[1]
    metric = SkillAccuracy()
    metric.update(graph, graph.op, [right] * 3 + [wrong])
    found = summarise_skills(*metric.compute(), [graph.op])
    assert found["atomic"]["sum of 2"] == {"trials": 4, "accuracy": 0.75}
    assert found["atomic"]["constant times"] == {"trials": 3, "accuracy": 1.0}
    assert found["composed"]["copy > sum of 2"] == {"trials": 4, "accuracy": 0.75, "expected": 0.75}
    assert summarise_skills(*metric.compute(), [graph.op + 1]) == {"atomic": {}, "composed": {}}


def published(op: int, count: int):
    graphs = (parse_problem(row["problem"], row["question"]) for row in list(rows(f"op{op}"))[:count])
    return [graph for graph in graphs if graph.well_posed]


def test_gold_solutions_of_published_rows_succeed_in_every_skill():
    for op in (4, 12):
        for graph in published(op, 40):
            found = trials(graph, verify(parse_response(response_of(render_trace(gold_trace(graph)))), graph))
            assert all(right for _, right in found)
            steps = [name for name in graph.order if graph.quantities[name].rule != "unknown"]
            assert sum(len(place) == 1 for place, _ in found) == len(steps) + (graph.unknown is not None)


def renamed(graph):
    """The same structure under other names, in bare words."""
    names = {name: f"item{'abcdefghijklmnopqrstuvwxyz'[i]}" for i, name in enumerate(graph.mentioned)}
    return {names[name]: [names[p] for p in parents] for name, parents in parents_of_problem(graph).items()}


def test_structure_does_not_depend_on_names():
    for graph in published(10, 20):
        assert torch.equal(features(parents_of_problem(graph)), features(renamed(graph)))


def test_the_structure_of_a_right_solution_is_that_of_its_problem():
    for graph in published(8, 40):
        report = verify(parse_response(response_of(render_trace(gold_trace(graph)))), graph)
        assert torch.equal(features(parents_of_solution(report, None)), features(parents_of_problem(graph)))


def test_a_chain_is_more_like_a_longer_chain_than_like_a_star():
    chain = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}
    longer = chain | {"e": ("d",)}
    star = {"a": (), "b": ("a",), "c": ("a",), "d": ("a",)}
    one = {name: features(graph)[None] for name, graph in (("chain", chain), ("longer", longer), ("star", star))}
    assert similarity(one["chain"], one["chain"]) == pytest.approx(1)
    assert similarity(one["chain"], one["star"]) < similarity(one["chain"], one["longer"]) < 1
    assert similarity(torch.cat([one["star"], one["chain"]]), one["chain"]) == pytest.approx(1)  # the most alike counts


def test_a_summary_of_structures_says_which_context_is_compared_with_which():
    """Gold of context a: a chain (op 2), a star (op 3). Of b: both (op 2). Accepted by `answer` in b: a chain (op 2)."""
    chain = features({"z": ["y"], "y": ["x"], "x": []})
    star = features({"z": ["x"], "y": ["x"], "x": []})
    rows = [(0, 2, 0, chain), (0, 3, 0, star), (0, 2, 1, chain), (0, 2, 1, star), (1, 2, 1, chain)]
    rows_MF = torch.stack([torch.cat([torch.tensor([source, op, context]), counts]) for source, op, context, counts in rows])
    found, alike = summarise_topology(rows_MF, ["a", "b"]), similarity(chain[None], star[None])
    assert alike < 1
    assert found == {
        "gold": {
            "b to a": {"2": {"similarity": pytest.approx((1 + alike) / 2), "graphs": 2}},  # b's star has no star in a's op 2
            "a to b": {"2": {"similarity": pytest.approx(1.0), "graphs": 1}},
        },
        "answer to gold": {"b to a": {"2": {"similarity": pytest.approx(1.0), "graphs": 1}}},
    }


def test_topology_keeps_the_problem_and_distinct_accepted_structures():
    graph, report = judged(*STEPS)
    metric = TopologyRows()
    metric.update(graph, graph.op, 0, {"answer": [report] * 3, "executable": [report] * 3})
    assert metric.compute()[:, 0].tolist() == [0, 1, 2]


def test_a_problem_row_counts_what_the_reports_say():
    right, wrong = judged(*STEPS)[1], judged(*STEPS[:2], answer=12)[1]
    table = ProblemTable()
    table.update([problem_row((7, 9, 0, 0), [right, wrong], [10, 4], [True, False])])
    row = table.compute()[0]
    assert [row[PLACE[name]].item() for name in ("index", "op", "samples", "answer", "paper", "executable")] == [7, 9, 2, 2, 1, 1]
    assert [row[PLACE[name]].item() for name in ("tokens", "finished", "error/missing", "node/missing", "node/correct")] == [
        14, 1, 1, 2, 6,
    ]  # fmt: skip
    assert row[PLACE["process_accuracy"]] == 1.5


def test_likelihood_of_tokens_equals_one_row_at_a_time(tiny_model):
    """Oracle: cross-entropy of a single row, no padding."""
    generator = torch.Generator().manual_seed(0)
    lengths = (5, 9, 2, 30)
    documents = [torch.randint(0, 576, (n,), generator=generator).tolist() for n in lengths]
    first = [1, 4, 1, 20]
    for document, start, found in zip(documents, first, token_nll(tiny_model, documents, first), strict=True):
        logits = tiny_model(input_ids=torch.tensor([document[:-1]])).logits[0]
        expected = cross_entropy(logits, torch.tensor(document[1:]), reduction="none")[start - 1 :]
        assert torch.allclose(found, expected, atol=1e-4)


def test_likelihood_adds_up_by_op_and_kind():
    metric = GoldLoss(2, 2)
    for context, kind, op in product((0, 1), (0, 1), (2, 5)):
        nll = (1.0, 3.0)[context] * (kind + 1)
        metric.update(torch.tensor([nll]), torch.tensor([op]), torch.tensor([context]), torch.tensor([kind]))
    assert summarise_likelihood(metric.compute(), ("a", "b"), [2]) == {
        "a": {"nll_nats": 2.0, "tokens": 2}, "b": {"nll_nats": 4.0, "tokens": 2}, "all": {"nll_nats": 3.0, "tokens": 4},
    }  # fmt: skip
    assert summarise_likelihood(metric.compute(), ("a", "b"), [9]) == {}
