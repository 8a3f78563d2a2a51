"""Rewards and credit as they are called: what goes wrong in one is told as its fault, with the response."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from traceback import extract_tb
from typing import Any

from grammar import Report
from lightning_modules.rewards.credit import Credit, Earned
from lightning_modules.rewards.reward import Reward

SHOWN = 160  # characters of a response in a message


class RewardError(RuntimeError):
    """A reward or credit failed on a response; no setting is at fault."""


def score(reward: Reward, response: str, report: Report) -> dict[str, float]:
    """The parts of a reward, checked.

    Args:
        reward: scores a response.
        response: what the model wrote.
        report: the verdict on it.

    Returns:
        Finite numbers by name; none: the reward abstains.

    Raises:
        RewardError: the reward raises, or returns None or something else than finite numbers by name.
    """
    parts = _called(reward, (response, report), response)
    if not isinstance(parts, dict):
        raise _error(reward, f"returned {parts!r}; return numbers by name, and {{}} to abstain", response)
    for name, value in parts.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise _error(reward, f"returned {value!r} as {name!r}; return a finite number, or leave the part out", response)
    return {name: float(value) for name, value in parts.items()}


def earn(credit: Credit, responses: Sequence[str], reports: Sequence[Report]) -> list[list[Earned]]:
    """Scored places of the responses to one problem, checked.

    Raises:
        RewardError: the credit raises, or returns other than finite rewards for each response.
    """
    found = _called(credit, (responses, reports), responses[0])
    if not isinstance(found, list) or len(found) != len(responses):
        raise _error(credit, f"returned {type(found).__name__}, not a list for each of {len(responses)} responses", responses[0])
    for response, places in zip(responses, found, strict=True):
        if not isinstance(places, list) or not all(isinstance(place, Earned) for place in places):
            raise _error(credit, f"returned {places!r}; return a list of Earned(end, reward) for each response", response)
        for place in places:
            if not math.isfinite(place.reward):
                raise _error(credit, f"returned {place.reward!r} at character {place.end}", response)
    if credit.aligned and len(set(map(len, found))) > 1:
        counts = sorted(set(map(len, found)))
        raise _error(credit, f"is aligned and returned {counts} places; return as many for every response", responses[0])
    return found


def _called(scorer: Callable[..., Any], arguments: tuple[Any, ...], response: str) -> Any:
    try:
        return scorer(*arguments)
    except RewardError:
        raise  # of one that it calls, which is named there
    except Exception as err:  # whatever it is, it is the scorer's
        frame = extract_tb(err.__traceback__)[-1]
        where = f"{Path(frame.filename).name}, line {frame.lineno}"
        raise _error(scorer, f"raised {type(err).__name__}: {err} ({where})", response) from err


def _error(scorer: object, what: str, response: str) -> RewardError:
    kind = type(scorer)
    shown = response if len(response) <= SHOWN else f"{response[:SHOWN]} ..."
    return RewardError(f"{kind.__module__}.{kind.__qualname__} {what}. The response: {shown!r}")
