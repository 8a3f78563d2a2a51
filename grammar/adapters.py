"""The verifier as other trainers call a reward: TRL's `reward_funcs`, verl's `compute_score` (docs/elsewhere.md)."""

from collections.abc import Callable, Sequence
from typing import Any

from grammar.checking.verify import verify
from grammar.graders import grade
from grammar.reading.parse import parse_response
from grammar.reading.problem import parse_problem, read_problem


def trl_reward(grader: str = "executable") -> Callable[..., list[float]]:
    """A function for TRL's `GRPOTrainer(reward_funcs=...)`: 1.0 for a completion that the grader accepts, else 0.0.

    The data set has columns `problem` and `question` and, if contexts compute modulo a number, `modulus` (that number or None);
    prompts end with `<solution>`. Completions are texts or one-message conversations.
    """

    def reward(
        completions: Sequence[Any], problem: Sequence[str], question: Sequence[str], modulus: Sequence[int | None] | None = None,
        **columns: object,
    ) -> list[float]:  # fmt: skip
        texts = [done if isinstance(done, str) else done[-1]["content"] for done in completions]
        rows = zip(texts, problem, question, modulus or [None] * len(texts), strict=True)
        return [score(text, p, q, grader, m) for text, p, q, m in rows]

    reward.__name__ = f"interplay_{grader}"
    return reward


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None) -> float:
    """A reward as verl's `custom_reward_function`; `ground_truth` is the problem with its question as its last sentence.

    Args:
        data_source:  unused; verl passes it.
        solution_str: the response, after `<solution>`.
        ground_truth: the problem's text.
        extra_info:   `grader` (default executable) and `modulus`, both optional.
    """
    extra = extra_info or {}
    return score(solution_str, ground_truth, "", extra.get("grader") or "executable", extra.get("modulus"))


def score(response: str, problem: str, question: str, grader: str, modulus: int | None = None) -> float:
    """1.0 if the grader accepts a response to a problem, else 0.0; without `question`, the problem's last sentence is it."""
    graph, unread = read_problem(problem, question, modulus=modulus)
    if unread and graph.may_depend_on([sentence.text for sentence in unread]):
        graph = parse_problem(problem, question, modulus=modulus)  # which says what is wrong with the first
    return float(grade(verify(parse_response(response), graph), grader))
