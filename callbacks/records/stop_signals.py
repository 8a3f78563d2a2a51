"""Ctrl-C and SIGTERM, noted until there is a good moment to stop."""

import shlex
import signal
import sys
from threading import current_thread, main_thread
from types import FrameType
from typing import Any


class Stopped(SystemExit):
    """Training was stopped by a signal; the exit status is that of a process which the signal ended: 128 + its number."""

    def __init__(self, signum: int) -> None:
        """Keep the status."""
        super().__init__(128 + signum)


class StopSignals:
    """Catches the first SIGINT or SIGTERM; a second one ends the process at once.

    caught: the signal's number; None: none yet.
    """

    def __init__(self) -> None:
        """Catch nothing yet."""
        self.caught: int | None = None
        self.before: dict[int, Any] = {}

    def watch(self) -> None:
        """Begin to catch; only the main thread can."""
        self.caught = None
        if current_thread() is main_thread() and not self.before:
            self.before = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.caught = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        print(f"\n{signal.Signals(signum).name}: training stops after this update; once more to stop at once.", flush=True)

    def release(self) -> None:
        """Let signals do what they did before."""
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
        self.before = {}


def command_to_go_on(argv: list[str]) -> str:
    """The command that goes on with what `argv` started: the same, and for `fit` from its last checkpoint."""
    words = list(argv)
    if words[1:2] == ["fit"]:
        kept = [w for i, w in enumerate(words) if not w.startswith("--ckpt_path") and words[max(0, i - 1)] != "--ckpt_path"]
        words = [*kept, "--ckpt_path", "last"]
    return shlex.join([sys.executable.rpartition("/")[2], *words])
