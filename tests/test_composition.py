"""The recipe `composition`: its routes cost the same, each trains on what it says; and what is exposed."""

from collections import Counter
from dataclasses import replace

import pytest
from test_recipes import ROOT, SCALES
from test_withheld import PAIR, SPEC, reads_a_copy, synthesis

from datamodules.problems.graph_spec import GraphSpec
from recipes.planning.estimate import estimate
from recipes.planning.plan import make_plan, only
from recipes.planning.recipe import load_recipe

WITHHELD = replace(SPEC, withheld=(PAIR,))


def plan_of(scale):
    return make_plan(load_recipe(ROOT / "configs/recipe/composition.yaml", scale), (0,))


@pytest.mark.parametrize("scale", [pytest.param(name, marks=pytest.mark.long if name != "tiny" else ()) for name in SCALES])
def test_the_routes_have_equal_flops(scale):
    (plan,) = only([plan_of(scale)], ["0%-*"])
    arms = {arm.values["route"]: arm.stages for arm in plan.arms}
    costs = {route: estimate(stages[-1]).flops for route, stages in arms.items() if route != "base"}
    assert set(costs) == {"RL", "rejection", "gold"}
    assert max(costs.values()) <= 1.1 * min(costs.values()), costs


def test_routes_start_from_the_base_of_their_seed_and_train_on_one_of_two_compositions():
    arms = {arm.name.removesuffix("-seed0"): arm.stages for arm in plan_of("tiny").arms}
    assert len(arms) == 12 and len({stages[0].digest for stages in arms.values()}) == 3
    shares = {name: stages[0].config["data"]["init_args"]["graph"]["exposed"] for name, stages in arms.items()}
    assert {name.partition("%")[0]: share for name, share in shares.items()} == {"0": 0.0, "0.1": 0.001, "1": 0.01}
    for name, (base, *rest) in arms.items():
        assert base.config["data"]["init_args"]["graph"]["withheld"] == [PAIR, "sum of 2 > copy"]
        assert [stage.config["data"]["init_args"]["graph"]["withheld"] for stage in rest] == [["sum of 2 > copy"]] * len(rest)
        assert [stage.rejection is not None for stage in rest] == ([] if not rest else ["rejection" in name])
    mixtures = [arms[f"0%-{route}"][-1].config["data"]["init_args"]["mixture"] for route in ("RL", "rejection", "gold")]
    assert mixtures[0] == mixtures[1] == mixtures[2]
    evaluated = [stages[-1].config["data"]["init_args"]["held_out"] for stages in arms.values()]
    assert all({key: held_out[key] for key in ("bands", "problems")} == {
        "bands": {"skills": "2-3", "compositions": "4-5", "deeper": "6"}, "problems": 120} for held_out in evaluated)  # fmt: skip


def read(share, count, seed=0):
    """The first training problems, and whether each has the composition, by a reading of their sentences."""
    source = replace(synthesis(replace(WITHHELD, exposed=share)), seed=seed)
    found = [source.example("train", i) for i in range(count)]
    return [example.problem for example in found], [reads_a_copy(example) for example in found]


def test_a_share_of_problems_shows_what_is_withheld():
    """Oracle: if everything is exposed, n problems have the composition; if a share s is, s n, within 4 deviations."""
    count = 600
    whole = sum(read(1.0, count)[1])
    assert 0.3 * count < whole < 0.9 * count
    assert sum(read(0.0, count)[1]) == 0
    for share in (0.1, 0.5):
        expected = share * whole
        assert abs(sum(read(share, count)[1]) - expected) < 4 * expected**0.5


def test_exposed_problems_stay_so_under_a_larger_share_and_others_stay_the_same():
    none, few, many = (read(share, 300) for share in (0.0, 0.1, 0.5))
    assert none[0] == [synthesis(WITHHELD).example("train", i).problem for i in range(300)]
    assert 0 < sum(few[1]) < sum(many[1])
    assert all(many[0][i] == few[0][i] for i, shown in enumerate(few[1]) if shown)
    changed = [i for i in range(300) if few[0][i] != none[0][i]]
    assert changed == [i for i in range(300) if few[1][i]]  # only those that could not have been drawn before
    assert read(0.1, 300)[0] == few[0] != read(0.1, 300, seed=1)[0]


def test_nothing_is_exposed_of_other_splits_and_with_everything_exposed_nothing_is_withheld():
    spec = replace(WITHHELD, exposed=0.5)
    assert [synthesis(spec).example("test", i) for i in range(20)] == [synthesis(SPEC).example("test", i) for i in range(20)]
    whole = replace(WITHHELD, exposed=1.0)
    assert [synthesis(whole).example("train", i) for i in range(20)] == [synthesis(SPEC).example("train", i) for i in range(20)]


@pytest.mark.parametrize(
    "wrong", [{"exposed": 0.1}, {"exposed": -0.1, "withheld": (PAIR,)}, {"exposed": 1.5, "withheld": (PAIR,)}]
)
def test_a_share_of_nothing_or_of_more_than_all_is_refused(wrong):
    with pytest.raises(ValueError, match=r"exposed=.* share within 0 and 1"):
        GraphSpec(**wrong)


def test_the_compositions_of_tiny_occur_where_it_trains_on_them_and_enough_is_left_without():
    """Counted on training problems: the operations that have each pair, and how many different problems are left without both."""
    arms = {arm.name: arm.stages for arm in plan_of("tiny").arms}
    graph = arms["0%-gold-seed0"][0].config["data"]["init_args"]["graph"]
    spec = GraphSpec(**{key: tuple(value) if isinstance(value, list) else value for key, value in graph.items()})
    seen, left = {}, set()
    for op in range(2, 7):
        source = synthesis(replace(spec, withheld=()))
        cell = replace(source.mixture.cells[0], op=op)
        pairs = Counter(pair for i in range(150) for pair in source.example("train", i, cell).graph.compositions())
        seen[op] = [pairs[pair] / 150 for pair in spec.withheld]
        left |= {synthesis(spec).example("train", i, cell).problem for i in range(150)}
    assert [shares[0] > 0.1 for shares in seen.values()] == [False, False, True, True, True]
    assert [shares[1] > 0.1 for shares in seen.values()] == [False, False, False, True, True]
    assert len(left) > 0.98 * 5 * 150
