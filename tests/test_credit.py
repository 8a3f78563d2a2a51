"""Dense credit: where tokens end, what steps earn, and what that makes of advantages."""

import random
from statistics import fmean, pstdev

import pytest
import torch
from jsonargparse import ArgumentParser
from policy_runs import HalfwayCredit, LengthReward, Watch, build, fit
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from grammar import parse_problem, parse_response, verify
from lightning_modules import DrGRPOModule, GRPOModule, PPOModule
from lightning_modules.formulas import generalised_advantages, group_advantages, step_advantages
from lightning_modules.policy.character_ends import CharacterEnds, token_at
from lightning_modules.policy.collector import GroupSettings
from lightning_modules.policy.experience import Group, to_experience
from lightning_modules.policy.policy_module import PolicyModule
from lightning_modules.rewards import Earned, StepCredit, StrictReward

TEXTS = [
    "Define café noir as B; so B = 3. </solution> <answer> 3 </answer>",
    "Zoë's naïve œuvres in Ñandú Žoo — 1 € … \U0001f992\U0001f992 end",
    "Define roses as A; so A = 3 + 4 = 7. Define lilies as B; so B = A = 7.",
    "\n\té\u0301 ẞ中文 <answer>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_character_belongs_to_the_token_that_the_tokenizer_says(tokenizer, text):
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    assert tokenizer.decode(ids) == text
    ends = CharacterEnds(tokenizer)(ids)
    for end in range(1, len(text) + 1):
        holds = [t for t, (first, last) in enumerate(offsets) if first < end <= last]
        assert token_at(ends, end) == holds[-1]  # of several that share a character, the one that completes it


def test_tokens_no_encoder_would_choose_end_where_their_text_does(tokenizer):
    rng, ends_of = random.Random(0), CharacterEnds(tokenizer)
    for _ in range(300):
        ids = [rng.randrange(len(tokenizer) + 9) for _ in range(20)]  # an embedding may have spare rows
        ends = ends_of(ids)
        for t in range(len(ids) + 1):  # oracle: decode what is there so far
            text = tokenizer.decode(ids[:t])
            whole = len(text.rstrip("�"))
            assert whole <= (ends[t - 1] if t else 0) <= len(text)


def test_a_tokenizer_of_words_is_refused():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ValueError, match="byte-level"):
        CharacterEnds(words)


@pytest.fixture
def third_step_wrong(synthesis):
    """A graph, a right response, and one whose third step alone has a fault: a substitution that is not exact."""
    for i in range(400):
        example = synthesis.example("train", i)
        right = example.response
        steps = verify(parse_response(right), example.graph).steps
        if not len(steps) >= 4:
            continue
        sentence = right[steps[2].start : steps[2].end]
        sides = sentence.split(" = ")
        if len(sides) == 4:  # "Define roses as C; so C", "A + B", "7 + 8", "15."
            spoiled = right[: steps[2].start] + " = ".join([*sides[:2], sides[2] + " + 1", sides[3]]) + right[steps[2].end :]
            found = [step.correct for step in verify(parse_response(spoiled), example.graph).steps]
            if found == [True, True, False] + [True] * (len(steps) - 3):
                return example.graph, right, spoiled
    raise AssertionError("no example has a sum as its third step")


def test_steps_earn_their_share_at_their_end(third_step_wrong):
    graph, right, spoiled = third_step_wrong
    reports = [verify(parse_response(text), graph) for text in (right, spoiled)]
    n = len(reports[0].nodes)
    good, bad = StepCredit(1.0, -0.5)([right, spoiled], reports)
    assert [place.reward for place in good] == pytest.approx([1 / n] * n)
    assert [place.reward for place in bad] == pytest.approx([1 / n, 1 / n, -0.5 / n] + [1 / n] * (n - 3))
    assert all(right[: place.end].endswith(".") for place in good)
    assert right[good[1].end :].strip().startswith("Define")


def test_right_steps_that_no_solution_needs_earn_nothing(third_step_wrong):
    graph, right, _ = third_step_wrong
    report = verify(parse_response(right), graph)
    fewer = report._replace(nodes=report.nodes[1:])
    (places,) = StepCredit()([right], [fewer])
    assert [place.reward for place in places] == pytest.approx([0.0] + [1 / len(fewer.nodes)] * len(fewer.nodes))


def advantages_oracle(rewards: list[list[float]], ends: list[list[int]], width: int, discount: float) -> list[list[float]]:
    """arXiv:2402.03300, 4.1.3, one token at a time."""
    every = [r for row in rewards for r in row]
    normal = [[(r - fmean(every)) / (pstdev(every) + 1e-6) for r in row] for row in rewards]
    table = []
    for row, places in zip(normal, ends, strict=True):
        own = [next((j for j, end in enumerate(places) if end >= t), len(places)) for t in range(width)]
        table.append([sum(discount ** (j - first) * row[j] for j in range(first, len(row))) for first in own])
    return table


@pytest.mark.parametrize("discount", [1.0, 0.5, 0.0])
def test_step_advantages_equal_the_definition(discount):
    rng, width, groups = random.Random(0), 15, []
    for _ in range(4):
        ends = [sorted(rng.sample(range(width), rng.randint(1, 5))) for _ in range(3)]
        groups.append(([[rng.gauss(0, 1) for _ in row] for row in ends], ends))
    reward, marks = torch.zeros(4, 3, width, dtype=torch.float64), torch.zeros(4, 3, width, dtype=torch.bool)
    for b, (rewards, ends) in enumerate(groups):
        for g, (row, places) in enumerate(zip(rewards, ends, strict=True)):
            reward[b, g, places] = torch.tensor(row, dtype=torch.float64)
            marks[b, g, places] = True
    found = step_advantages(reward, marks, discount=discount)
    expected = torch.tensor([advantages_oracle(*group, width, discount) for group in groups], dtype=torch.float64)
    assert torch.allclose(found, expected, atol=1e-12)


def test_steps_that_all_earn_the_same_and_groups_without_steps_have_no_advantage():
    marks = torch.rand(3, 4, 9, generator=torch.Generator().manual_seed(0)) < 0.5
    assert (step_advantages(0.1 * marks, marks) == 0).all()
    assert (step_advantages(torch.zeros(1, 2, 5), torch.zeros(1, 2, 5, dtype=torch.bool)) == 0).all()


def experience_of(graph, texts, tokenizer):
    """Rows of the responses to one problem with step credit, and for each the token that ends each step."""
    reports = [verify(parse_response(text), graph) for text in texts]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    ends_of = CharacterEnds(tokenizer)
    credit = [
        [(token_at(ends_of(row), place.end), place.reward) for place in places]
        for row, places in zip(ids, StepCredit()(texts, reports), strict=True)
    ]
    parts = [StrictReward("executable")(text, report) for text, report in zip(texts, reports, strict=True)]
    rows = to_experience(
        [Group(None, [5, 6, 7], ids, [torch.zeros(len(row)) for row in ids], texts, reports, parts, credit)],
        tokenizer.pad_token_id,
    )
    return rows, [[2 + token for token, _ in places] for places in credit]  # after three tokens of prompt, predicted one before


def test_a_fault_in_step_three_of_grpo_is_that_steps_own(third_step_wrong, tokenizer):
    """Steps 1 and 2 positive, step 3 negative, where the others of the group have it right."""
    graph, right, spoiled = third_step_wrong
    rows, ends = experience_of(graph, [right, spoiled, right, right], tokenizer)
    module = GRPOModule("start", StrictReward(), credit=StepCredit(), step_discount=0.0, group=GroupSettings(4))
    steps = step_advantages(rows.credit_NT[None], rows.ends_NT[None], discount=0.0)[0]
    first, second, third = ends[1][:3]
    assert (steps[1, : second + 1] > 0).all()
    assert (steps[1, second + 1 : third + 1] < 0).all()
    assert (steps[[0, 2, 3]] >= 0).all()
    whole = group_advantages(rows.rewards_BG).T
    assert torch.allclose(module._advantage(rows), (whole + steps) * rows.mask_NT)
    assert first < second < third


def test_a_sum_over_all_later_steps_carries_the_fault_back(third_step_wrong, tokenizer):
    """DeepSeekMath's sum: where one step of a group is wrong, those that led to it share its advantage."""
    graph, right, spoiled = third_step_wrong
    rows, ends = experience_of(graph, [right, spoiled, right, right], tokenizer)
    steps = step_advantages(rows.credit_NT[None], rows.ends_NT[None])[0]
    _, second, third = ends[1][:3]
    assert (steps[1, 2 : third + 1] < 0).all()
    assert steps[1, third] < steps[1, second] < steps[1, 2] < 0
    assert (steps[1, third + 1 : ends[1][-1] + 1] > 0).all()


def test_a_fault_in_step_three_of_ppo_is_that_steps_own(third_step_wrong, tokenizer):
    """Against a critic that expects what the others earn, looking one step ahead."""
    graph, right, spoiled = third_step_wrong
    rows, ends = experience_of(graph, [right, spoiled, right, right], tokenizer)
    earned = rows.reward_NT + rows.credit_NT
    to_come = earned.flip(1).cumsum(1).flip(1)
    value = to_come[[0, 0, 0, 0], : earned.shape[1]] * 0.9  # what a right response still earns, a tenth less
    found = generalised_advantages(earned, value, rows.mask_NT, decay=0.0)
    first, second, third = ends[1][:3]
    assert found[1, first] > 0
    assert found[1, second] > 0
    assert found[1, third] < 0


@pytest.mark.parametrize("module_type", [GRPOModule, PPOModule])
def test_token_rewards_are_part_of_the_experience(module_type, start, tmp_path):
    watch, module = Watch(), build(start, module_type, credit=HalfwayCredit(), reward=LengthReward(0.5))
    fit(module, tmp_path, max_steps=1, callbacks=[watch])
    (batch,) = watch.batches
    rows = [(g, i) for g in module.groups for i in range(4)]
    expected = [g.rewards[i] + len(set(g.responses[i][: max(1, len(g.responses[i]) // 2)])) / 10 + 0.1 for g, i in rows]
    assert torch.allclose(batch.token_rewards_NT.sum(dim=1), torch.tensor(expected)[batch.rows_N])
    assert (batch.token_rewards_NT[~batch.mask_NT] == 0).all()
    last = [int(mask.nonzero().max()) for mask in batch.mask_NT]
    assert all(batch.token_rewards_NT[n, t] >= 0.1 for n, t in enumerate(last))
    assert watch.logs[0]["train/credit"] > 0


def test_a_group_whose_steps_differ_has_something_to_learn():
    def group(credit):
        return Group(None, [], [[], []], [torch.zeros(0)] * 2, ["", ""], [], [{"r": 1.0}, {"r": 1.0}], credit)

    assert not group([[], []]).varies
    assert not group([[(3, 0.5)], [(4, 0.5)]]).varies
    assert group([[(3, 0.5)], [(4, -0.5)]]).varies


def test_steps_are_not_divided_by_a_std_where_completions_are_not(third_step_wrong, tokenizer):
    graph, right, spoiled = third_step_wrong
    rows, _ = experience_of(graph, [right, spoiled, right, right], tokenizer)
    module = DrGRPOModule("start", StrictReward(), credit=StepCredit(), step_discount=0.0, group=GroupSettings(4))
    rewards, ends = rows.credit_NT, rows.ends_NT
    mean = rewards[ends].mean()
    for n, t in ends.nonzero().tolist():
        expected = rows.rewards_BG[0, n] - rows.rewards_BG.mean() + rewards[n, t] - mean
        assert module._advantage(rows)[n, t] == pytest.approx(expected.item(), abs=1e-6)
    undivided = GRPOModule("start", StrictReward(), credit=StepCredit(), step_discount=0.0, std_correction=None,
                           group=GroupSettings(4))  # fmt: skip
    assert torch.equal(undivided._advantage(rows), module._advantage(rows))


def test_advantages_of_ones_own_go_with_credit_and_see_lengths_and_ends(third_step_wrong, tokenizer):
    class Shortest(GRPOModule):
        """The shortest completion gains; one that was cut has nothing."""

        def completion_advantages(self, experience):
            shorter = experience.lengths_BG.float().mean(dim=1, keepdim=True) - experience.lengths_BG
            return shorter * experience.ended_BG

    graph, right, spoiled = third_step_wrong
    rows, _ = experience_of(graph, [right, spoiled, right, right[: len(right) // 2]], tokenizer)
    rows.ended_N = torch.tensor([True, True, True, False])
    module = Shortest("start", StrictReward(), credit=StepCredit(), std_correction=1, group=GroupSettings(4))
    steps = step_advantages(rows.credit_NT[None], rows.ends_NT[None], correction=1)[0]
    lengths = [int(mask.sum()) for mask in rows.mask_NT]
    own = [sum(lengths) / 4 - n for n in lengths[:3]] + [0.0]
    expected = (torch.tensor(own)[:, None] + steps) * rows.mask_NT
    assert len(set(lengths)) > 1
    assert torch.allclose(module._advantage(rows), expected, atol=1e-5)


def test_a_credit_that_rewards_nothing_is_refused():
    with pytest.raises(ValueError, match="right step"):
        StepCredit(0.0, 0.0)


def test_a_shaper_of_ones_own_needs_one_file(tmp_path, monkeypatch):
    (tmp_path / "shaper.py").write_text(
        "from lightning_modules.rewards import Credit, Earned\n\n\n"
        "class Consensus(Credit):\n"
        '    """A response earns, at its end, the share of the group that has its answer."""\n\n'
        "    def __call__(self, responses, reports):\n"
        "        answers = [report.answer for report in reports]\n"
        "        return [[Earned(len(r), answers.count(a) / len(answers))] for r, a in zip(responses, answers)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PolicyModule, "model")
    settings = {"init_from": "start", "reward": {"class_path": "lightning_modules.rewards.OutcomeReward"}}
    config = {"class_path": "lightning_modules.PPOModule", "init_args": settings | {"credit": {"class_path": "shaper.Consensus"}}}
    module = parser.instantiate_classes(parser.parse_object({"model": config})).model
    texts = ["</solution> <answer> 3 </answer>", "</solution> <answer> 4 </answer>", "</solution> <answer> 3 </answer>"]
    graph = parse_problem("The number of roses equals 3.", "How many roses are there?")
    reports = [verify(parse_response(text), graph) for text in texts]
    assert [places[0] for places in module.collector.credit(texts, reports)] == [
        Earned(32, 2 / 3),
        Earned(32, 1 / 3),
        Earned(32, 2 / 3),
    ]
