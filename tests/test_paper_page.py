"""docs/paper.md says what its sources say."""

from benchmarks.paper_page import PAGE, filled, recipes


def test_the_page_is_what_its_sources_give():
    text = PAGE.read_text(encoding="utf-8")
    assert filled(text) == text


def test_every_figure_of_results_names_its_recipe():
    assert {f"Figure {number}" for number in range(3, 19)} | {"Table 3"} == recipes().keys()
