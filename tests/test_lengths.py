"""Whether difficulty is length, against counts by hand."""

from benchmarks.lengths import begins_right, distances, measured, overlap, summary
from datamodules.problems.graph_spec import GraphSpec
from datamodules.problems.mixture import Cell
from datamodules.problems.synthesis import Synthesis
from datamodules.rows.tokenizer import load_tokenizer

PROBLEM = "The number of oaks equals 2. The number of ferns equals 3. The number of figs equals the number of oaks."
TINY = {"max_terms": 2, "differences": 0.0, "constants": 0.0, "distractors": (0, 0), "shuffle": False}


def test_overlap_is_the_shared_mass_in_bins():
    assert overlap([0, 1, 2, 3], [4, 5, 6, 7]) == 1.0  # one bin of eight tokens
    assert overlap([0, 8, 16, 24], [8, 16, 24, 32]) == 0.75
    assert overlap([0], [8]) == 0.0


def test_distances_are_tokens_between_mentions():
    tokenizer = load_tokenizer("garden")
    tokens = tokenizer.tokenize(PROBLEM)
    at = [number for number, token in enumerate(tokens) if "oaks" in token]
    assert distances(PROBLEM, ["oaks", "ferns"], tokenizer) == [at[1] - at[0]]


def test_a_response_begins_right_with_a_needed_quantity_that_refers_to_no_other():
    row = {"problem": PROBLEM, "question": "How many figs are there?"}
    for response, right in (
        ("Define oaks as A; so A = 2.", True), ("Define ferns as A; so A = 3.", False), ("Define figs as A; so", False),
        ("I think", False), ("Define elms as A;", False),
    ):  # fmt: skip
        assert begins_right(row | {"response": response}) is right


def rows(fillers):
    synthesis = Synthesis(None, GraphSpec(**TINY, fillers=(0, fillers), fillers_of="orchestra"), random_letters=False)
    for op in (5, 6):
        for index in range(150):
            example = synthesis.example("test", index, Cell(op, "garden"))
            texts = {"problem": example.problem, "question": example.question, "solution": example.solution}
            yield {"op": op, "sample": 0, "response": example.solution, **texts}


def test_fillers_make_lengths_overlap():
    tokenizer = load_tokenizer("garden_orchestra")
    plain, filled = (summary(measured(rows(fillers), tokenizer)) for fillers in (0, 6))
    assert plain[6]["lengths shared"] < 0.4
    assert filled[6]["lengths shared"] > 0.5
    assert filled[6]["first name right"] == 1.0
    assert filled[6]["longest"] > plain[6]["longest"] + 30
