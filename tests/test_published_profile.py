"""Problems of the profile "published" are distributed as published ones, and lose a statement only if asked to."""

import json
import re
from collections import Counter

import pytest

from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import MODES, Cell
from datamodules.problems.published import BANDS, PROFILE, defective, statistics
from datamodules.problems.synthesis import Synthesis
from grammar import parse_problem
from recipes.earlier_keys import renamed

MEASURED = json.loads(PROFILE.read_text())
ZOO = "crazy_zootopia"
STEP = re.compile(r"Define ([^;]+) as (\w+);(.*?)(?=Define |Answer:)", re.DOTALL)


def variation(theirs: dict[str, float], ours: Counter[str]) -> float:
    """Total variation of shares and counts."""
    return sum(abs(theirs.get(value, 0) - ours[value] / ours.total()) for value in theirs.keys() | ours.keys()) / 2


def drawn(mode: str, band: str, per_op: int) -> dict[str, Counter[str]]:
    """Statistic -> value -> number, of examples of a band."""
    synthesis, found = Synthesis(None, GraphSpec(profile="published")), {}
    for op in BANDS[band]:
        for index in range(per_op):
            context = ("crazy_zootopia", "teachers_in_school", "movie_festival_awards")[index % 3]
            for name, count in statistics(synthesis.example("train", index, Cell(op, context, mode)).graph).items():
                statistic, _, value = name.partition(" ")
                found.setdefault(statistic, Counter())[value] += count
    return found


def check(mode: str, band: str, per_op: int, most: float) -> None:
    theirs = MEASURED[f"{'reverse' if mode == MODES[1] else 'forward'} {band}"]["measured"]
    ours = drawn(mode, band, per_op)
    apart = {name: variation(theirs[name], ours[name]) for name in theirs if ours.get(name, Counter()).total() >= per_op}
    assert max(apart.values()) <= most, apart


@pytest.mark.parametrize("mode", MODES)
def test_easy_problems_are_distributed_as_published(mode):
    check(mode, "2-4", 150, 0.09)  # of 450 draws; a sample of this size from the very same distribution is up to 0.06 off


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("mode", MODES)
def test_problems_of_every_band_are_distributed_as_published(mode, band):
    check(mode, band, 400, 0.07)


def test_the_plain_profile_is_further_off():
    found: Counter[str] = Counter()
    for index in range(300):
        graph = Synthesis(None).example("train", index, Cell(5 + index % 3, ZOO)).graph
        found[str(len({s.name for s in graph.statements} - set(graph.order)))] += 1
    assert variation(MEASURED["forward 5-7"]["measured"]["distractors"], found) > 0.3


@pytest.mark.parametrize("mode", MODES)
def test_statistics_are_what_a_reader_of_the_texts_counts(mode):
    """Oracle: regular expressions on the texts; letters stand for quantities, followed through scratch letters."""
    synthesis = Synthesis(None, GraphSpec(profile="published"))
    for op in (2, 5, 9, 13):
        example = synthesis.example("train", op, Cell(op, ZOO, mode))
        steps = STEP.findall(example.solution)
        owner = {letter: name for name, letter, _ in steps}
        parents = {}
        for name, letter, body in steps:
            sides = dict(re.findall(r"(\w+) = ([^=.;]+)", body.split("We know")[0])[::-1])
            reached, waiting = set(), [sides.get(letter, "")]
            while waiting:
                for each in re.findall(r"\b[A-Za-z]+\b", waiting.pop()):
                    reached |= {owner[each]} if each in owner and each != letter else set()
                    waiting += [sides.pop(each)] if each in sides and each not in owner else []
            parents[name] = reached
        depth: dict[str, int] = {}
        for name, of in parents.items():
            depth[name] = 1 + max((depth[p] for p in of), default=0)
        uses = Counter(p for of in parents.values() for p in of)
        sentences = set(re.findall(r"number of ([^.]+?) (?:equals|exists)", example.problem))
        plain = {name for name in parents if not name.startswith("total ")}
        expected = {
            f"steps {len(steps)}", f"depth {max(depth.values())}", f"fan-out {max(uses.values())}",
            f"reused {sum(count > 1 for count in uses.values())}",
            f"distractors {len({s for s in sentences if not re.match('adult animals', s)} - plain)}",
        }  # fmt: skip
        found = {name for name in statistics(example.graph) if name.split(" ")[0] in {e.split(" ")[0] for e in expected}}
        assert found == expected, example


def test_a_lost_statement_is_that_of_a_sum_whose_last_operand_but_one_is_unknown():
    text = (
        "The number of A in Kew exists, and its number is greater than 0. The number of B in Kew equals 2. The number of C in "
        "Kew equals the sum of the number of B in Kew, the number of A in Kew, and the number of B in Hull. The number of B in "
        "Hull equals 1. The number of C in Kew equals 6. "
    )
    graph = parse_problem(text, "How many A does Kew have?")
    assert graph.answer == 3
    lost = defective(graph)
    assert [s.rule for s in lost.statements] == ["unknown", "given", "unknown", "given", "given"]
    assert not lost.well_posed
    other = parse_problem(text.replace("the number of A in Kew, and the number of B in Hull", "the number of B in Hull, and the "
                                       "number of A in Kew"), "How many A does Kew have?")  # fmt: skip
    assert defective(other) is other


def test_defects_change_texts_alone_and_only_if_asked_for():
    cells = [Cell(op, ZOO, MODES[1]) for op in (12, 16, 19)]
    clean, defects = (Synthesis(None, GraphSpec(profile="published", defects=asked)) for asked in (False, True))
    pairs = [(clean.example("train", i, cell), defects.example("train", i, cell)) for cell in cells for i in range(8)]
    assert all(parse_problem(one.problem, one.question).well_posed for one, _ in pairs)
    changed = [(one, other) for one, other in pairs if one.problem != other.problem]
    assert 0 < len(changed) < len(pairs)
    ill = [not parse_problem(other.problem, other.question).well_posed for _, other in changed]
    assert any(ill)  # the others lost what the answer does not need
    assert all(one.solution == other.solution and one.graph == other.graph for one, other in pairs)


def test_what_was_not_measured_is_refused():
    with pytest.raises(ValueError, match="set it to plain"):
        Synthesis(None, GraphSpec(profile="published")).example("train", 0, Cell(3, "garden"))
    with pytest.raises(ValueError, match="measured at depth 2"):
        GraphSpec(profile="published", depth=3)
    with pytest.raises(ValueError, match="choose from"):
        GraphSpec(profile="balance")


def test_the_earlier_key_of_balanced_problems_is_read(capsys):
    old = {"data": {"init_args": {"graph": {"balanced": True, "copies": 0.1}}}}
    assert renamed(old)["data"]["init_args"]["graph"] == {"copies": 0.1, "profile": "balanced"}
    assert "graph.profile: balanced" in capsys.readouterr().err
    assert (
        renamed({"data": {"init_args": {"graph": {"balanced": False, "fillers_after": 0}}}})["data"]["init_args"]["graph"] == {}
    )
    with pytest.raises(ValueError, match="fillers_after is gone; train a stage without fillers"):
        renamed({"data": {"init_args": {"graph": {"fillers_after": 9}}}})
