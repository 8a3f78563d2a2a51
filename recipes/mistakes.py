"""What went wrong, in one line, if it is the user who can mend it.

jsonargparse tells a mistake as a tree of all that a value might have been, around the one sentence that matters; this file finds
the sentence and the key.
"""

import errno
import re
import sys
import traceback
from argparse import ArgumentError
from collections.abc import Iterator
from dataclasses import is_dataclass
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml

from callbacks.files import is_installed, is_ours
from recipes.named_files import HOME

# their ValueErrors are about what they are given
LIBRARIES = ("jsonargparse", "argparse", "omegaconf", "submitit", "lightning", "optim")
LONGEST = 400
KEY = re.compile(r'Parser key "(.+)":$')
CLASS = re.compile(r"Problem with given class_path '(.+)':$")
NOISE = re.compile(
    r"Does not validate against|Subtypes: |Errors:$|Given value|Expected a path but |Not a valid subclass|Subclass types expect|"
    r"(- )?a (class path|dict) |Expected an? <class '[\w.]+'>$|Expected an? [\w.]+\[.*\]$|$"
)
KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


# what is nobody's mistake here: pattern of an error -> what it means
FAILURES = {
    r"worker.*(exited|killed)": "a process that prepares data has ended, killed perhaps for memory; `--ckpt_path last` resumes",
    r"[Cc]onnection (closed|reset|refused)|gloo|NCCL|[Bb]roken pipe": "another process of this run has ended or does not answer, "
    "see what it printed; `--ckpt_path last` resumes",
}


def failed(err: BaseException) -> str | None:
    """One line about a failure that is neither mistake nor bug here: of numbers, a reward, another process; None: it is none."""
    if isinstance(err, FloatingPointError) or type(err).__name__ == "RewardError":
        return str(err)
    if type(err).__module__.startswith("torch.distributed") or isinstance(err, RuntimeError):
        for pattern, meaning in FAILURES.items():
            if re.search(pattern, str(err)):
                return f"{meaning} ({shorten(str(err))[:120]})."
    return None


def told(err: BaseException) -> str | None:
    """One line about a mistake of the user; None: it is not theirs, but a bug."""
    if isinstance(err, yaml.YAMLError):
        return _of_yaml(err)
    if isinstance(err, UnicodeDecodeError):
        return f"a file is not text in UTF-8: {err}"
    if isinstance(err, RecursionError):
        return "the input is nested too deeply."
    if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        where = f"{err.filename}: " if err.filename else ""
        return f"{where}{err.strerror}: make room on the disk of the run's folder; `--ckpt_path last` resumes."
    if isinstance(err, OSError):
        return f"{err.filename}: {err.strerror}." if err.filename else str(err)
    misconfigured = type(err).__name__ == "MisconfigurationException"  # Lightning refuses a setting of the Trainer
    if isinstance(err, ArgumentError) or (isinstance(err, ValueError) and _is_about_input(err)) or misconfigured:
        return shorten(innermost(str(err)))
    return None


def _is_about_input(err: BaseException) -> bool:
    """Whether an error was raised by this project or by a library of settings, not within a library of computation."""
    frames = traceback.extract_tb(err.__traceback__)
    if not frames:
        return True
    path = Path(frames[-1].filename)
    parts, beside = path.parts, path.is_relative_to(HOME) and not is_installed(path)
    return is_ours(path) or beside or any(name in parts or f"{name}.py" in parts for name in LIBRARIES)


def _of_yaml(err: yaml.YAMLError) -> str:
    mark = getattr(err, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}not YAML: {getattr(err, 'problem', None) or err}."


def shorten(text: str) -> str:
    """One line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 4]} ..."


def innermost(message: str) -> str:
    """The sentence that matters of a message of jsonargparse, with its key; other messages as they are."""
    lines = message.splitlines()
    if not any(KEY.search(line) or "Does not validate" in line for line in lines):
        return _plainer(message, None)
    for path, kind, sentence in _sentences(lines):
        return f"{path}: {_plainer(sentence, kind)}" if path else _plainer(sentence, kind)
    keys = [match[1] for line in lines if (match := KEY.search(line.strip()))]
    options = [name for line in lines for name in re.findall(r"'([^']*)'", line) if "Literal[" in line and "Subtypes" not in line]
    value = next((line.partition(": ")[2] for line in lines if line.strip().startswith("Given value: ")), "?")
    wanted = f"one of {', '.join(dict.fromkeys(options))}" if options else "another value"
    return f"{'.'.join(keys)}: expected {wanted}, got {value}."


def _sentences(lines: list[str]) -> Iterator[tuple[str, type | None, str]]:
    """(key, class whose argument it is, sentence) of each line that says something."""
    keys: list[tuple[int, str]] = []
    kinds: list[tuple[int, Any]] = []
    for line in lines:
        text = line.strip().removeprefix("- ")
        depth = len(line) - len(line.lstrip(" -"))
        keys = [(at, key) for at, key in keys if at < depth]
        kinds = [(at, kind) for at, kind in kinds if at < depth]
        if match := KEY.match(text):
            inner = kinds and keys and not is_dataclass(kinds[-1][1])
            keys.append((depth, f"init_args.{match[1]}" if inner else match[1]))
        elif match := CLASS.match(text):
            kinds.append((depth, locate(match[1])))
        elif not NOISE.match(text):
            yield ".".join(key for _, key in keys), kinds[-1][1] if kinds else None, text


def _plainer(sentence: str, kind: type | None) -> str:
    """A sentence of jsonargparse in plain words."""
    if match := re.match(r"Expected an? <class '(\w+)'>\. Got value: (.*)", sentence):
        return f"expected {KINDS.get(match[1], match[1])}, got {match[2]!r}."
    if match := re.match(r"Expected an? typing\.Literal\[(.*)\]\. Got value: (.*)", sentence):
        return f"expected one of {match[1].replace(chr(39), '')}; got {match[2]!r}."
    unknown = r"Option '(?P<option>.+)' is not accepted|unrecognized arguments: --(?P<flag>.+?)(?:=.*)?$"
    if match := re.match(unknown, sentence):
        name = match["option"] or match["flag"]
        return f"there is no {name!r}{_meant(name, kind)}."
    if match := re.match(r"Expected a dot import path string: (.*)", sentence):
        return f"{match[1]!r} is no class; write its full path, e.g. lightning_modules.optimizers.AdamW."
    if match := re.match(r"Import path ?(.*) does not correspond to a subclass of (\w+)", sentence):
        return f"{match[1] or 'what is named'} is no {match[2]}; name a class that is one."
    if match := re.search(r"module '([\w.]+)' has no attribute '(\w+)'$", sentence):
        close = get_close_matches(match[2], vars(sys.modules.get(match[1], re)), 1)
        return f"there is no {match[2]!r} in {match[1]}{f', but {close[0]!r}' if close else ''}."
    if match := re.search(r"but (.+) is abstract$", sentence):
        missing = ", ".join(sorted(getattr(locate(match[1]), "__abstractmethods__", ())))
        return f"{match[1]} lacks {missing or 'a method'}, which its base class asks for."
    if match := re.search(r"No module named '([\w.]+)'$", sentence):
        return f"{sentence}; name its folder, e.g. PYTHONPATH=. before the command."
    if match := re.match(r"the following arguments are required: (.*)", sentence):
        return f"set {match[1]}, which {kind.__name__ if kind else 'it'} needs."
    return sentence


def _meant(name: str, kind: type | None) -> str:
    """A key of that class, or of its bases, that looks alike."""
    known = {argument for base in getattr(kind, "__mro__", ()) for argument in _arguments(base)}
    close = get_close_matches(name.rpartition(".")[2], known, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _arguments(kind: type) -> set[str]:
    try:
        return set(signature(kind.__init__).parameters) - {"self", "args", "kwargs"}  # type: ignore[misc]  # its own signature
    except (TypeError, ValueError):
        return set()


def _of_user(err: BaseException) -> traceback.FrameSummary | None:
    """The line of the user's own code, if any, that called what raised an error; None: this project's code called it."""
    for frame in reversed(traceback.extract_tb(err.__traceback__)):
        path = Path(frame.filename)
        if path.is_absolute() and not is_installed(path):
            return None if is_ours(path) else frame
    return None


def report(err: BaseException) -> None:
    """Print the traceback of an error, and whose it is."""
    traceback.print_exception(err)
    if (frame := _of_user(err)) is not None:
        print(f"{Path(frame.filename).name}, line {frame.lineno}, raised it, which is no part of interplay.", file=sys.stderr)
        return
    print(
        "This is a bug, not a mistake of yours: please report it with the lines above and the command that you ran.",
        file=sys.stderr,
    )
