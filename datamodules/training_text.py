"""The training format, written by `prompt_text` and `response_text`.

`<question> {problem} {question} </question> <solution> {steps} </solution> <answer> {n} </answer>`
"""

QUESTION, SOLUTION, ANSWER = ("<question>", "</question>"), ("<solution>", "</solution>"), ("<answer>", "</answer>")
GOLD_ANSWER = " Answer: "  # before the number that ends a gold solution


def prompt_text(problem: str, question: str) -> str:
    """What a model is given: everything up to and including `<solution>`."""
    return f"{QUESTION[0]} {problem.strip()} {question} {QUESTION[1]} {SOLUTION[0]}"


def response_text(solution: str) -> str:
    """What a model should write after the prompt; the solution's `Answer: N.` moves into the answer tag."""
    steps, _, answer = solution.strip().rpartition(GOLD_ANSWER)
    return f" {steps} {SOLUTION[1]} {ANSWER[0]} {answer.removesuffix('.')} {ANSWER[1]}"
