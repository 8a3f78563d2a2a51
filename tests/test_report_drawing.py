"""The report's first screen and its drawings: verdicts read their numbers, panels place them, graphs are the problems'."""

import re

import pytest

from recipes.report.chart import Line, Panel
from recipes.report.effects import verdict
from recipes.report.figures import numeric
from recipes.report.page import strips
from recipes.report.panel_svg import Scale, panel_svg, small_multiples
from recipes.report.samples import graph_of
from recipes.report.sourced_numbers import Number, Term
from recipes.report.verdicts import Effect, sentence_of


def number(value, low=None, high=None, seeds=1):
    return Number(value, low, high, ((Term(1, "f", "k"),),) * seeds)


def test_a_panel_of_many_lines_becomes_panels_of_three_that_share_the_first():
    lines = tuple(Line(str(i), ((1, number(0.5)),), style=i) for i in range(6))
    found = small_multiples(Panel("", "", "", lines))
    assert [[line.label for line in panel.lines] for panel in found] == [["0", "1", "2"], ["0", "3", "4"], ["0", "5"]]
    assert small_multiples(Panel("", "", "", lines[:3])) == [Panel("", "", "", lines[:3])]
    assert len(small_multiples(Panel("", "", "", lines, kind="bar"))) == 1


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (Scale(0, 1, 100, 0), {0: 100, 1: 0, 0.25: 75}),
        (Scale(1, 16, 0, 100, 2), {1: 0, 4: 50, 16: 100}),
        (Scale(0.01, 100, 0, 80, 10), {0.01: 0, 1: 40, 100: 80}),
    ],
)
def test_a_scale_places_values_in_proportion(scale, expected):
    assert {value: scale(value) for value in expected} == expected
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks())


def test_the_ticks_of_a_share_include_both_ends():
    assert Scale(0, 1, 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["0", "0.1%", "10%", "none"], {"0": 0, "0.1%": 0.1, "10%": 10}),
        (["1.05B", "20B"], {"1.05B": 1.05, "20B": 20}),
        (["500k", "1M", "2M"], {"500k": 5e5, "1M": 1e6, "2M": 2e6}),
        (["800M", "1.05B"], {"800M": 8e8, "1.05B": 1.05e9}),
        (["", "B", "1.2.3", "x1"], {}),
    ],
)
def test_values_of_an_axis_are_numbers_of_one_unit(texts, numbers):
    assert numeric(texts) == pytest.approx(numbers)


@pytest.mark.parametrize("kind", ["line", "bar", "stack"])
def test_a_drawing_has_a_mark_for_each_number_and_escapes_names(kind):
    points = (
        ((1, number(0.25, 0.2, 0.3)), (2, number(0.75, 0.7, 0.8)))
        if kind == "line"
        else (("a<b", number(0.25)), ("c", number(0.5)))
    )
    text = panel_svg(Panel("t<", "x", "y", (Line("one", points, 0), Line("two", points, 1)), kind=kind))
    assert len(re.findall(r'class="(?:d|b) c', text)) == 4
    assert "t<" not in text
    assert "a<b" not in text


def test_points_that_are_not_joined_have_a_mark_and_a_whisker_each():
    points = tuple((x, number(0.1 * x, 0.1 * x - 0.05, 0.1 * x + 0.05)) for x in range(1, 10))
    text = panel_svg(Panel("", "x", "y", (Line("arms", points),), joined=False))
    assert [len(re.findall(rf'class="{kind} c0', text)) for kind in ("d", "w", "l", "a")] == [9, 9, 0, 0]


def test_a_line_goes_up_where_its_numbers_do():
    text = panel_svg(Panel("", "x", "y", (Line("one", ((1, number(0.2)), (2, number(0.4)), (3, number(0.8)))),)))
    places = [tuple(map(float, point.split())) for point in re.search(r'class="l c0" d="M([^"]+)"', text).group(1).split("L")]
    (x0, y0), (x1, y1), (x2, y2) = places
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y2 == pytest.approx(2 * (y0 - y1), abs=0.2)


def test_a_sentence_reads_the_first_effect_and_counts_verdicts():
    gain, none = number(0.4, 0.2, 0.6, 3), number(0.01, -0.3, 0.32, 3)
    effects = tuple(
        Effect(what, found, seeds, verdict(found))
        for what, found, seeds in (("RL - base: edge", gain, (0.3, 0.4, 0.5)), ("RL - base: hard", none, (-0.1, 0.03, 0.1)))
    )
    assert sentence_of(effects, claimed=False) == (
        "RL - base: edge is +0.40 [+0.20, +0.60], above zero with 3 of 3 seeds; of 2 differences, 1 above zero, 1 not resolvable."
    )
    assert sentence_of(effects[1:], claimed=True) == "RL - base: hard is +0.01 [-0.30, +0.32], above zero with 2 of 3 seeds."
    alone = Effect("RL - base: edge", number(0.4, 0.2, 0.6), (0.4,), "above zero (these two models)")
    assert sentence_of((alone,), claimed=False) == "RL - base: edge is +0.40 [+0.20, +0.60], over problems, with one seed."


def test_effects_share_a_scale_that_holds_zero_and_every_seed():
    found = strips([Effect("", number(0.4, 0.2, 0.6, 3), (0.1, 0.4, 0.7), ""), Effect("", number(0.1), (0.1,), "")])
    first, second = found["rows"]
    assert 0 < found["zero"] < first["seeds"][0] < first["low"] < first["value"] < first["high"] < first["seeds"][2] < 100
    assert second["value"] == first["seeds"][0]
    assert second["low"] is None


def test_the_graph_of_a_sample_is_that_of_its_problem():
    row = {
        "problem": "The number of roses equals 3. The number of oaks equals 4. "
        "The number of ferns equals the sum of the number of roses and the number of oaks.",
        "question": "How many ferns are there?", "modulus": 5,
    }  # fmt: skip
    found = {node["name"]: node for node in graph_of(row)}
    assert {name: node["rule"] for name, node in found.items()} == {"roses": "given: 3", "oaks": "given: 4", "ferns": "sum"}
    assert [list(found)[i] for i in found["ferns"]["parents"]] == ["roses", "oaks"]
    assert [(node["x"], node["y"]) for node in found.values()] == [(0, 0), (1, 0), (0, 1)]
    assert graph_of(row | {"problem": "Nobody counts."}) == []
