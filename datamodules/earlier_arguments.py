"""Arguments under the names they had before settings were grouped: they still work, with a warning."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from inspect import signature
from typing import Any


class EarlierArguments(type):
    """Metaclass of modules whose arguments moved into frozen settings.

    earlier_arguments: earlier name -> "SETTINGS.FIELD". The settings may now have the name of an earlier argument.
    """

    earlier_arguments: Mapping[str, str] = {}

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Build an instance, with earlier arguments moved into their settings."""
        for name, place in cls.earlier_arguments.items():
            settings, field = place.split(".")
            if name in kwargs and is_earlier(name, kwargs[name], place):
                value = kwargs.pop(name)
                warnings.warn(deprecation(name, place), DeprecationWarning, stacklevel=2)
                kwargs[settings] = replace(kwargs.get(settings, _default(cls, settings)), **{field: value})
        return super().__call__(*args, **kwargs)


def is_earlier(name: str, value: object, place: str) -> bool:
    """Whether an argument has its earlier meaning: always, unless settings have its name and its value is not text."""
    return name != place.partition(".")[0] or isinstance(value, str)


def deprecation(name: str, place: str) -> str:
    """The warning about an earlier argument."""
    settings, _, field = place.partition(".")
    return f"`{name}` is deprecated; write `{settings}: {{{field}: ...}}` instead."


def _default(cls: type, settings: str) -> Any:
    parameters = (signature(base.__init__).parameters for base in cls.__mro__)  # type: ignore[misc]  # its own signature
    return next(of[settings].default for of in parameters if settings in of)
