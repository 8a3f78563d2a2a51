"""docs/interop.md shows what the tests found and the lines that they run."""

import json
import re
from pathlib import Path

from benchmarks.interop import PAGE, RESULTS, matrix

TEXT = PAGE.read_text(encoding="utf-8")


def lines(text):
    return "\n".join(line.strip() for line in text.strip().splitlines())


def test_the_table_is_that_of_the_results():
    assert f"<!-- matrix -->\n\n{matrix(json.loads(RESULTS.read_text()))}\n\n<!-- /matrix -->" in TEXT


def test_every_snippet_is_run_by_a_consumer():
    snippets = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    consumers = [lines(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.glob("consumer_*.py")]
    assert len(snippets) == 5
    assert not [snippet for snippet in snippets if not any(lines(snippet) in consumer for consumer in consumers)]


def test_every_environment_was_checked():
    environments = {path.stem for path in (Path(__file__).parent / "requirements").glob("*.txt")}
    assert set(json.loads(RESULTS.read_text())["consumers"]) == environments
