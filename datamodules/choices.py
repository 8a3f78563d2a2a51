"""Settings that are one of a few words, for callers that no command line checks."""

from typing import Any, get_args


def check_choice(name: str, value: object, choices: Any) -> None:
    """Refuse a word that is no choice.

    Args:
        name: of the setting, for the message.
        value: its value.
        choices: a `Literal`.

    Raises:
        ValueError: it is none of them.
    """
    if value not in get_args(choices):
        raise ValueError(f"{name}={value!r} is unknown; choose from {list(get_args(choices))}.")
