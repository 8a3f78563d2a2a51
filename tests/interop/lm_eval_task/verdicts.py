"""The grammar's graders as metrics of lm-eval."""

from typing import Any

from grammar.adapters import compute_score


def verdicts(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """1.0 for each grader that accepts the response, else 0.0."""
    problem, modulus = f"{doc['problem']} {doc['question']}", doc.get("modulus")
    return {
        grader: compute_score("interplay", results[0], problem, {"grader": grader, "modulus": modulus})
        for grader in ("answer", "executable")
    }
