"""Configs and recipes by name: `quickstart` for configs/recipe/quickstart.yaml, wherever the project is installed."""

from difflib import get_close_matches
from pathlib import Path

from datamodules.yaml_text import read_yaml

HOME = Path(__file__).parents[1]
CONFIGS = HOME / "configs"


def named_file(name: str | Path, *rooms: str) -> Path:
    """The file that a word of a command line names.

    Args:
        name: a path; else `configs/...` of the project, from any folder; else a file under `configs/` without its ending, such as
            `trainer/ddp`, or, in one of the rooms, `ddp`.
        rooms: folders under `configs/` that the command reads.

    Raises:
        ValueError: there is no such file; it names those that there are.
    """
    path = Path(name)
    places = [path, HOME / path, CONFIGS / f"{path}.yaml", *(CONFIGS / room / f"{path}.yaml" for room in rooms)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        names = sorted(one.stem for room in rooms for one in (CONFIGS / room).glob("*.yaml"))
        close = get_close_matches(path.stem, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}, or give a path."
        raise ValueError(f"{str(name)!r} does not exist; {hint}")
    return found


def with_named_configs(argv: list[str], *rooms: str) -> list[str]:
    """The words of a command line, each `--config NAME`, or `-c NAME`, as `--config PATH`.

    Raises:
        ValueError: a file that does not exist, or cannot be read (`read_yaml`).
        yaml.YAMLError: one that is no YAML.
    """
    words, following = [], False
    for word in argv:
        before, equals, value = word.partition("=") if word.startswith("--config=") else ("", "", word)
        if (following or equals) and ":" not in value:  # a colon: the config itself, as YAML
            file = named_file(value, *rooms)
            read_yaml(file)  # whoever reads it next does not know its name
            word = f"{before}{equals}{file}"
        following = word in ("--config", "-c")
        words.append(word)
    return words
