"""Generated parts of docs/paper.md and docs/data.md say what their sources say."""

import pytest

from benchmarks.paper_page import PAGES, ROOT, filled, recipes


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_its_sources_give(page):
    assert filled(page) == (ROOT / page).read_text(encoding="utf-8")


def test_every_figure_of_results_names_its_recipe():
    assert {f"Figure {number}" for number in range(3, 19)} | {"Table 3"} == recipes().keys()
