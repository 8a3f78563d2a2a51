"""Right answers with wrong reasoning."""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, get_args

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from callbacks.processes import sum_over_processes
from grammar.reading.trace import ErrorKind

KINDS: tuple[str, ...] = get_args(ErrorKind)


class RewardHacking(Callback):
    """Log how often a right answer comes with a wrong process, by kind of error, and what that earns.

    `train/hacking`:              share of right answers whose process is not free of errors.
    `train/hacking/KIND`:         share of right answers with an error of that kind (`grammar.reading.trace.ErrorKind`).
    `train/hacking/reward`:       mean reward of right answers with a wrong process.
    `train/hacking/sound_reward`: mean reward of right answers with a right one.
    What did not occur in the last rollouts is not logged.

    Args:
        window: rollouts over which a share is taken.
    """

    def __init__(self, window: int = 1) -> None:
        if window < 1:
            raise ValueError(f"RewardHacking: window={window} must be at least 1.")
        self.counts: deque[dict[str, float]] = deque(maxlen=window)

    def state_dict(self) -> dict[str, Any]:
        """Counts of the last rollouts."""
        return {"counts": list(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from there."""
        self.counts.extend(state["counts"])

    def on_rollout(self, trainer: Trainer, pl_module: LightningModule, groups: Sequence[Any]) -> dict[str, float]:
        """Count, and log the shares."""
        found = count_right_answers(groups)
        names = ("right", "hacked", "hacked reward", "sound reward", *KINDS)
        self.counts.append(dict(zip(names, sum_over_processes(trainer, [found[name] for name in names]), strict=True)))
        total = Counter()
        for counts in self.counts:
            total.update(counts)
        right, hacked = total["right"], total["hacked"]
        logs = {}
        if right:
            logs["train/hacking"] = hacked / right
            logs |= {f"train/hacking/{kind}": total[kind] / right for kind in KINDS}
        if hacked:
            logs["train/hacking/reward"] = total["hacked reward"] / hacked
        if right > hacked:
            logs["train/hacking/sound_reward"] = total["sound reward"] / (right - hacked)
        return logs


def count_right_answers(groups: Sequence[Any]) -> Counter[str]:
    """Count completions with the right answer: all, those with errors, what both kinds earn, and how many have each error."""
    found: Counter[str] = Counter()
    for group in groups:
        for report, reward in zip(group.reports, group.rewards, strict=True):
            if report.answer_correct:
                kinds = {error.kind for error in report.errors}
                found["right"] += 1
                found["hacked"] += bool(kinds)
                found["hacked reward" if kinds else "sound reward"] += reward
                found.update(kinds)
    return found
