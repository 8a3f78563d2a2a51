"""Files of rows as people keep them, and as nobody should: marks, wrong cells, deep JSON, bombs. One clear line each."""

import gzip
import json
import tracemalloc

import pytest
import zstandard

from datamodules.files.jsonl import to_example
from datamodules.files.line_files import MOST_LINE, lines_of
from datamodules.files.row_source import RowSource
from grammar import parse_response
from main import main
from recipes.verify_command import main as judge

ROW = {
    "id": "r1", "problem": "The number of roses equals 3. The number of oaks equals 2 times the number of roses. ",
    "question": "How many oaks are there?", "op": 3, "template": "garden", "mode": "normalforward",
    "solution": "Define roses as A; so A = 3. Define oaks as B; C = A = 3; so B = 2 * C = 2 * 3 = 6. Answer: 6.",
}  # fmt: skip
MARK = b"\xef\xbb\xbf"


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def one_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    assert len(line) < 400
    return line


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(MARK + json.dumps(ROW).encode() + b"\n" + json.dumps(ROW).encode() + b"\n")
    assert main(["verify", str(path)]) == 0 and "rows judged       2" in capsys.readouterr().out
    assert judge([str(path)]) == 0
    assert [example.cell.op for example in RowSource([path], read=to_example)] == [3, 3]
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + MARK + json.dumps(ROW).encode())
    assert judge([str(path)]) == 1


@pytest.mark.parametrize("read", ["to_solved", "to_example"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"op": -3}, "`op`"), ({"op": 0}, "`op`"), ({"op": True}, "`op`"), ({"op": 1024}, "`op`"), ({"op": 10**30}, "`op`"),
        ({"op": 2.0}, "`op`"), ({"op": "3"}, "`op`"), ({"mode": "sideways"}, "`mode`"), ({"mode": ["normalforward"]}, "`mode`"),
        ({"mode": ""}, "`mode`"),
    ],
)  # fmt: skip
def test_a_row_of_an_impossible_cell_is_refused(tmp_path, read, change, message):
    path = written(tmp_path / "rows.jsonl", ROW, ROW | change)
    options = {"read": to_example} if read == "to_example" else {}
    with pytest.raises(ValueError, match=rf"rows\.jsonl, line 2: expected {message} to be") as error:
        RowSource([path], **options)
    one_line(str(error.value))
    assert RowSource([path], bad_rows="skip", **options).skipped == 1


@pytest.mark.parametrize("drop", ["op", "mode"])
def test_what_a_row_does_not_say_of_its_cell_is_read_from_its_text(tmp_path, drop):
    bare = {key: value for key, value in ROW.items() if key != drop}
    for options in ({}, {"read": to_example}):
        (example,) = RowSource([written(tmp_path / "rows.jsonl", bare)], **options)
        assert (example.cell.op, example.cell.mode) == (3, "normalforward")


@pytest.mark.parametrize(
    "ending",
    [
        " Answer: 6.",
        "\r\nAnswer: 6.",
        " Answer:6.",
        "\nAnswer:  6. \n",
        "</solution> <answer>6</answer>",
        " <answer> 6 </answer>",
    ],
)
def test_a_gold_solution_of_another_ending_is_that_of_the_published_one(tmp_path, ending):
    """What the grammar reads is measured: its response is the same, whatever blanks stand where."""
    solution = ROW["solution"].removesuffix(" Answer: 6.")
    (example,) = RowSource([written(tmp_path / "rows.jsonl", ROW | {"solution": solution + ending})], read=to_example)
    assert example.solution == ROW["solution"]
    assert not parse_response(example.response).errors


@pytest.mark.parametrize(
    "solution", ["Six.", "Define roses as A; so A = 3.", "Define roses as A; so A = 3. Answer: 3. Answer: 6."]
)
def test_a_gold_solution_that_cannot_be_measured_is_left_out(tmp_path, solution):
    (example,) = RowSource([written(tmp_path / "rows.jsonl", ROW | {"solution": solution})], read=to_example)
    assert example.solution == ""


@pytest.mark.parametrize("key", ["problem", "question", "solution"])
def test_half_of_a_surrogate_pair_is_a_bad_row(tmp_path, key):
    path = written(
        tmp_path / "rows.jsonl", ROW, ROW | {key: ROW[key].replace("roses", "ro\ud800ses").replace("oaks", "oa\ud800ks")}
    )
    for options in ({}, {"read": to_example}):
        with pytest.raises(
            ValueError, match=rf"line 2: expected `{key}` to be text, found half of a surrogate pair at character "
        ):
            RowSource([path], **options)
        assert RowSource([path], bad_rows="skip", **options).skipped == 1


def test_blanks_around_a_question_are_no_part_of_the_prompt(tmp_path):
    (plain,) = RowSource([written(tmp_path / "rows.jsonl", ROW)], read=to_example)
    (blank,) = RowSource([written(tmp_path / "rows.jsonl", ROW | {"question": f" {ROW['question']}\n"})], read=to_example)
    assert blank.prompt == plain.prompt


@pytest.mark.parametrize(("more", "answer"), [({}, 1), ({"modulus": 7}, 6), ({"template": "rows"}, 6)])
def test_a_file_named_after_a_context_computes_modulo_what_it_does(tmp_path, capsys, more, answer):
    """Three times two is 1 modulo 5, as the garden computes; a row's own modulus or template goes before the file's name."""
    bare = {key: ROW[key] for key in ("problem", "question")} | more
    (example,) = RowSource([written(tmp_path / "garden.jsonl", bare)], read=to_example)
    assert example.graph.answer == answer
    response = (
        f"Define roses as A; so A = 3. Define oaks as B; so B = 2 * A = 2 * 3 = {answer}. </solution> <answer> {answer} </answer>"
    )
    assert main(["verify", str(written(tmp_path / "garden.jsonl", bare | {"response": response}))]) == 0
    assert "accepted          1.0000" in capsys.readouterr().out


@pytest.mark.parametrize("value", [True, "5", 0, 1, -2])
def test_a_modulus_is_a_whole_number_of_at_least_two(tmp_path, capsys, value):
    assert judge([str(written(tmp_path / "rows.jsonl", ROW | {"modulus": value}))]) == 1
    assert "modulus" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("deep", ["[" * 100_000, '{"a":' * 50_000, '{"problem": ' + "[" * 3000 + "]" * 3000 + "}"])
def test_deep_json_is_a_bad_row(tmp_path, capsys, deep):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROW) + "\n" + deep + "\n" + json.dumps(ROW) + "\n")
    assert main(["verify", str(path)]) == 1
    said = capsys.readouterr()
    assert "line 2: not judged: JSON nested too deeply" in one_line(said.err) and "rows judged       2" in said.out
    assert RowSource([path], bad_rows="skip").skipped == 1


def bomb(path, piece: bytes, times: int):
    """A file of a few kilobytes that unpacks to hundreds of megabytes."""
    compressor = zstandard.ZstdCompressor().compressobj() if path.suffix == ".zst" else None
    with path.open("wb") as raw:
        sink = gzip.GzipFile("", "wb", 9, raw) if compressor is None else None
        for _ in range(times):
            raw.write(compressor.compress(piece)) if compressor is not None else sink.write(piece)
        raw.write(compressor.flush()) if compressor is not None else sink.close()
    return path


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst"])
@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"a" * (1 << 22), id="a line"),
        pytest.param((b"{}" + b" " * 1021 + b"\n") * (1 << 12), id="lines", marks=pytest.mark.long),
    ],
)
def test_a_bomb_is_refused_in_little_memory(tmp_path, capsys, name, piece):
    path = bomb(tmp_path / name, piece, 40)
    assert path.stat().st_size * 300 < 160 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"rows\.jsonl.*, after line \d+: cannot be read: more than") as error:
            sum(len(line) for _, line in lines_of(path))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    one_line(str(error.value))
    assert main(["verify", str(path)]) == 2
    assert "cannot be read: more than" in capsys.readouterr().err.splitlines()[-1]


def test_a_line_too_long_is_refused_in_a_plain_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + b"a" * (MOST_LINE + 10))
    with pytest.raises(ValueError, match="after line 2: cannot be read: more than 16 MiB in a line"):
        list(lines_of(path))


def test_repetitive_rows_of_a_usual_size_are_read(tmp_path):
    path = tmp_path / "rows.jsonl.zst"
    text = (json.dumps(ROW) + "\n").encode() * 20_000
    path.write_bytes(zstandard.ZstdCompressor().compress(text))
    assert b"".join(line for _, line in lines_of(path)) == text
