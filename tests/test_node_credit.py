"""Credit for gold quantities: padding, repeating and stopping early raise no token's advantage. Credit for steps pays padding."""

from functools import cache
from statistics import fmean, pstdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.rows.tokenizer import load_tokenizer
from grammar import grade, parse_problem, parse_response, verify
from lightning_modules import GRPOModule
from lightning_modules.formulas import node_advantages
from lightning_modules.policy.character_ends import CharacterEnds, token_at
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.experience import Group, to_experience
from lightning_modules.rewards import NodeCredit, StepCredit, StrictReward

GRAPH = parse_problem(
    "The number of roses equals 3. The number of lilies equals 2. The number of irises equals the number of tulips. "
    "The number of tulips equals the sum of the number of roses and the number of lilies. "
    "The number of peonies equals the sum of the number of irises and the number of roses. "
    "The number of poppies equals 4. The number of asters equals the number of roses. "
    "The number of daisies equals the number of poppies. "
    "The number of violets equals the sum of the number of poppies and the number of lilies.",
    "How many peonies are there?",
)
GOLD = [
    "Define roses as A; so A = 3.",
    "Define lilies as B; so B = 2.",
    "Define tulips as C; so C = A + B = 3 + 2 = 5.",
    "Define irises as D; so D = C = 5.",
    "Define peonies as E; so E = D + A = 5 + 3 = 8.",
]
WRONG = [step.rpartition("= ")[0] + "9." for step in GOLD]
TRUE_BUT_IDLE = ["Define poppies as F; so F = 4.", "Define asters as G; so G = A = 3.", "Define daisies as H; so H = F = 4.",
                 "Define violets as I; so I = F + B = 4 + 2 = 6."]  # fmt: skip
END = " </solution> <answer> 8 </answer>"
TOKENIZER = load_tokenizer("garden")
ENDS = CharacterEnds(TOKENIZER)


def text_of(steps):
    return " " + " ".join(steps) + END


def group_of(responses, credit):
    texts = [text_of(steps) for steps in responses]
    reports = [verify(parse_response(text), GRAPH) for text in texts]
    ids = [[*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id] for text in texts]
    places = [
        [(token_at(ENDS(row), place.end), place.reward) for place in earned]
        for row, earned in zip(ids, credit(texts, reports), strict=True)
    ]
    return Group(
        None,
        [5, 6, 7],
        ids,
        [torch.zeros(len(row)) for row in ids],
        texts,
        reports,
        [{"r": 0.0}] * len(ids),
        places,
        credit.aligned,
    )


@cache
def module_of(credit, size, **module_settings):
    return GRPOModule("start", StrictReward(), credit=credit, group=GroupSettings(size), **module_settings)


def advantages(responses, credit=NodeCredit(), **module_settings):
    """Of each response: the advantages at the last token of each step and at the very last token, from the module itself."""
    group = group_of(responses, credit)
    found = module_of(credit, len(responses), **module_settings)._advantage(to_experience([group], TOKENIZER.pad_token_id))
    table = []
    for row, ids, steps, report in zip(found, group.completions, responses, group.reports, strict=True):
        assert len(report.steps) == len(steps)
        tokens = [token_at(ENDS(ids), step.end) for step in report.steps]
        table.append([float(row[2 + token]) for token in (*tokens, len(ids) - 1)])
    return table


def test_the_steps_here_are_what_they_are_called():
    report = verify(parse_response(text_of([*GOLD[:3], *TRUE_BUT_IDLE, *GOLD[3:]])), GRAPH)
    assert grade(report, "executable")
    assert len(report.nodes) == 5
    assert not any(verify(parse_response(text_of([*GOLD[:k], WRONG[k]])), GRAPH).steps[k].correct for k in range(5))


def test_of_eight_the_one_with_four_true_idle_steps_gains_by_steps_and_not_by_nodes():
    plain = [GOLD[0], *WRONG[1:]]
    group = [[*plain, *TRUE_BUT_IDLE], *[plain] * 7]
    padded, *others = advantages(group, StepCredit())
    assert padded[0] == pytest.approx(2.441, abs=1e-3)
    assert [row[0] for row in others] == pytest.approx([-0.349] * 7, abs=1e-3)
    assert {value for row in advantages(group) for value in row} == {0.0}


steps = st.lists(
    st.sampled_from([*GOLD, *GOLD, *WRONG, *TRUE_BUT_IDLE]), min_size=1, max_size=8, unique_by=lambda step: step.split()[1]
)
groups = st.lists(st.one_of(steps, st.just(GOLD)), min_size=2, max_size=5)
rules = st.fixed_dictionaries({"step_discount": st.sampled_from([0.0, 0.3, 0.9, 1.0]), "std_correction": st.sampled_from([0, 1])})
MANY = settings(max_examples=100, deadline=None)


def assert_no_gain(before, after, kept):
    """`kept`: for each old place its new one. A response changes; no advantage at a place that stays may rise."""
    for old, new in kept:
        assert after[new] <= before[old] + 1e-4


@MANY
@given(groups, rules, st.data())
def test_padding_with_true_steps_changes_no_advantage(group, rule, data):
    written = {step.split()[1] for step in group[0]}
    idle = [step for step in TRUE_BUT_IDLE if step.split()[1] not in written]
    extra = data.draw(st.lists(st.sampled_from(idle), max_size=4, unique=True)) if idle else []
    at = data.draw(st.integers(0, len(group[0])))
    changed = [[*group[0][:at], *extra, *group[0][at:]], *group[1:]]
    before, after = advantages(group, **rule), advantages(changed, **rule)
    assert after[1:] == [pytest.approx(row, abs=1e-5) for row in before[1:]]
    assert after[0][:at] == pytest.approx(before[0][:at], abs=1e-5)
    assert after[0][at + len(extra) :] == pytest.approx(before[0][at:], abs=1e-5)
    assert after[0][at : at + len(extra)] == pytest.approx([before[0][at]] * len(extra), abs=1e-5)  # as what follows


@MANY
@given(groups, rules, st.data())
def test_repeating_steps_raises_no_advantage(group, rule, data):
    again = data.draw(st.lists(st.integers(0, len(group[0]) - 1), min_size=1, max_size=4))
    changed = [[*group[0], *(group[0][i] for i in again)], *group[1:]]
    before, after = advantages(group, **rule), advantages(changed, **rule)
    assert_no_gain(before[0], after[0], [*enumerate(range(len(group[0]))), (-1, -1)])


@MANY
@given(groups, rules, st.data())
def test_stopping_early_raises_no_advantage(group, rule, data):
    left = data.draw(st.integers(0, len(group[0]) - 1))
    before, after = advantages(group, **rule), advantages([group[0][:left], *group[1:]], **rule)
    assert_no_gain(before[0], after[0], enumerate(range(left)))
    assert after[0][-1] <= 1e-5  # stopping itself never earns


@MANY
@given(groups, st.data())
def test_the_gain_of_a_right_step_is_felt_by_all_that_led_to_it(group, data):
    k = data.draw(st.integers(0, 4))
    right, wrong = [*GOLD], [*GOLD[:k], WRONG[k]]
    before, after = advantages([wrong, *group]), advantages([right, *group])
    for place in range(k + 1):
        assert after[0][place] > before[0][place]


@pytest.mark.parametrize("discount", [1.0, 0.5, 0.0])
def test_node_advantages_equal_the_definition(discount):
    torch.manual_seed(0)
    reward, place = torch.randn(3, 4, 5, dtype=torch.float64), torch.randint(0, 13, (3, 4, 5))  # 12: left out
    found = node_advantages(reward, place, 12, discount=discount)
    for b in range(3):
        columns = [[float(reward[b, g, k]) for g in range(4)] for k in range(5)]
        for g in range(4):
            earned = {}
            for k, column in enumerate(columns):
                where = int(place[b, g, k])
                earned[where] = earned.get(where, 0.0) + (column[g] - fmean(column)) / (pstdev(column) + 1e-6)
            for t in range(12):
                later = [value for where, value in sorted(earned.items()) if t <= where < 12]
                assert float(found[b, g, t]) == pytest.approx(sum(discount**j * value for j, value in enumerate(later)), abs=1e-9)


def test_a_group_varies_if_some_quantity_does():
    assert not group_of([[GOLD[0], WRONG[1]]] * 3, NodeCredit()).varies  # rewards of steps differ, those of responses do not
    assert group_of([[GOLD[0], WRONG[1]], [GOLD[0], GOLD[1]]], NodeCredit()).varies


def test_a_fault_is_charged_at_its_step_and_a_gap_at_the_end():
    faulty = [*GOLD[:2], WRONG[2]]
    found = advantages([faulty, GOLD, GOLD, GOLD], step_discount=0.0)
    assert found[0][:2] == [0.0, 0.0]  # all have them right
    assert found[0][2] == pytest.approx(-(3**0.5), rel=1e-4)
    assert found[0][3] == pytest.approx(-2 * 3**0.5, rel=1e-4)  # two quantities missing
    assert found[1] == pytest.approx([0, 0, *[3**-0.5] * 3, 0], rel=1e-4)


def test_right_must_earn_more_than_wrong():
    with pytest.raises(ValueError, match="right step"):
        NodeCredit(0.0, 0.0)
