"""The training format: `<question> {problem} {question} </question> <solution> {steps} </solution> <answer> {n} </answer>`."""

QUESTION, SOLUTION, ANSWER = ("<question>", "</question>"), ("<solution>", "</solution>"), ("<answer>", "</answer>")
GOLD_ANSWER = " Answer: "  # before the number that ends a gold solution


class TrainingText:
    """What has a `problem`, a `question` and a `solution`, in the training format."""

    __slots__ = ()
    problem: str
    question: str
    solution: str

    @property
    def prompt(self) -> str:
        """What a model is given: everything up to and including `<solution>`."""
        return f"{QUESTION[0]} {self.problem.strip()} {self.question} {QUESTION[1]} {SOLUTION[0]}"

    @property
    def response(self) -> str:
        """What a model should write after the prompt; EOS follows. The solution's `Answer: N.` moves into the answer tag."""
        steps, _, answer = self.solution.strip().rpartition(GOLD_ANSWER)
        return f" {steps} {SOLUTION[1]} {ANSWER[0]} {answer.removesuffix('.')} {ANSWER[1]}"
