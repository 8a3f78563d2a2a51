"""Learning-rate schedules: a function of the step, as a factor of the peak rate, safe at one step; ramps of other settings."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, pi


class Schedule(ABC):
    """A factor in [0, 1] for each of `steps` updates: a linear warm-up, then `after_warmup`.

    Args:
        warmup: share of all steps with a rising rate.
        floor: factor at the end.
        shared_steps: None: the schedule ends with the run. A number: runs of any length share one schedule of that many updates,
            and a shorter run stops before its end (the paper's mid-training, of 38,693).
    """

    def __init__(self, warmup: float = 0.0, floor: float = 0.0, shared_steps: int | None = None) -> None:
        if not (0 <= warmup < 1 and 0 <= floor <= 1):
            raise ValueError(f"schedule: warmup={warmup} must be in [0, 1) and floor={floor} in [0, 1].")
        if shared_steps is not None and shared_steps < 1:
            raise ValueError(f"schedule: shared_steps={shared_steps} must be at least 1; leave it out to end with the run.")
        self.warmup, self.floor, self.shared_steps = warmup, floor, shared_steps

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor of update `step` (from 0) of the run's `steps`."""
        steps = self.shared_steps or steps
        warm = self.warmup * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        progress = (step - warm) / max(1.0, steps - warm)
        return self.floor + (1 - self.floor) * self.after_warmup(min(progress, 1.0))

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """Return a factor in [0, 1] for `progress` in [0, 1]."""


class Constant(Schedule):
    """The peak rate throughout."""

    def after_warmup(self, progress: float) -> float:
        """1."""
        return 1.0


class Cosine(Schedule):
    """Half a cosine down to the floor (arXiv:1608.03983)."""

    def after_warmup(self, progress: float) -> float:
        """(1 + cos(pi * progress)) / 2."""
        return (1 + cos(pi * progress)) / 2


class WSD(Schedule):
    """Warm-up, stable, decay (arXiv:2404.06395): the peak rate, then linearly down to the floor.

    Args:
        warmup: share of all steps with a rising rate.
        decay: share of the steps after the warm-up in which the rate falls.
        floor: factor at the end.
        shared_steps: see Schedule.
    """

    def __init__(self, warmup: float = 0.02, decay: float = 0.3, floor: float = 0.0, shared_steps: int | None = None) -> None:
        super().__init__(warmup, floor, shared_steps)
        if not 0 < decay <= 1:
            raise ValueError(f"schedule: decay={decay} must be in (0, 1].")
        self.decay = decay

    def after_warmup(self, progress: float) -> float:
        """1 until the decay starts, then linearly to 0."""
        return min(1.0, (1 - progress) / self.decay)


@dataclass(frozen=True)
class Ramp:
    """A setting that moves in a straight line from `first` to `last` during a run.

    Args:
        first: value up to `start`.
        last: value from `end` on.
        start: share of the run's updates.
        end: share of the run's updates, above `start`.
    """

    first: float
    last: float
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(f"{self}: need 0 <= start < end <= 1, as shares of the run.")

    def __call__(self, progress: float) -> float:
        """The value at `progress` in [0, 1]."""
        share = min(1.0, max(0.0, (progress - self.start) / (self.end - self.start)))
        return self.first + (self.last - self.first) * share
