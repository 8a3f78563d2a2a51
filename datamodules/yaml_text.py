"""YAML as people write it: `1e-2` is a number, and a file cannot grow without bound while it is read."""

import re
from pathlib import Path
from typing import Any

import yaml

LARGEST, DEEPEST = 1_000_000, 100  # values, with each alias written out; levels
FLOAT = re.compile(
    r"^(?:[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)e[-+]?[0-9]+|[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)|[-+]?\.inf|\.nan)$", re.IGNORECASE
)


INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)$")
NUMBERS = {"tag:yaml.org,2002:float": FLOAT, "tag:yaml.org,2002:int": INT}


class _Loader(yaml.SafeLoader):
    """SafeLoader with the numbers of YAML 1.2: 1.1 takes `1e-2` and `4.2e6` for text, `1:00:00` for 3600 and `017` for 15.

    A key may not stand twice in a mapping; `on`, `off`, `yes` and `no` as keys are text.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Look at the keys as they are written, before those of `<<` are put before them."""
        met: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if (
                isinstance(key, yaml.ScalarNode)
                and key.tag == "tag:yaml.org,2002:bool"
                and key.value.lower() not in ("true", "false")
            ):
                key.tag = "tag:yaml.org,2002:str"
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if (key.tag, key.value) in met:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
                met.add((key.tag, key.value))
        super().flatten_mapping(node)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag not in NUMBERS]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, pattern in NUMBERS.items():
    _Loader.add_implicit_resolver(tag, pattern, list("-+0123456789."))


def check_size(text: str, name: str = "YAML") -> None:
    """Refuse text whose content is much larger than it looks.

    Raises:
        ValueError: it is nested too deeply, or refers to parts of itself too often.
    """
    sizes, open_nodes, known = [0], [], {}  # values so far by level; names of the levels; name -> values
    parser = yaml.SafeLoader(text)
    parser.name = name
    while parser.check_event():
        event = parser.get_event()
        if isinstance(event, yaml.CollectionStartEvent):
            sizes.append(1)
            open_nodes.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size, anchor = sizes.pop(), open_nodes.pop()
            sizes[-1] += size
            known |= {anchor: size} if anchor else {}
        elif isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            sizes[-1] += known.get(event.anchor, 1) if isinstance(event, yaml.AliasEvent) else 1
        if len(sizes) > DEEPEST or sizes[-1] > LARGEST:
            what = f"is nested deeper than {DEEPEST} levels" if len(sizes) > DEEPEST else f"has more than {LARGEST:,} values"
            raise ValueError(f"{name} {what}, its aliases written out; use several files.")


def read_yaml(source: Path | str) -> Any:
    """The content of a YAML file, or of text.

    Raises:
        ValueError: it is no text, or much larger than it looks.
        yaml.YAMLError: it is no YAML, or has a key twice in a mapping.
    """
    try:
        text, name = (source, "YAML") if isinstance(source, str) else (source.read_text(encoding="utf-8"), str(source))
    except UnicodeDecodeError as err:
        raise ValueError(f"{source} is not text in UTF-8 (byte {err.start}); save it as UTF-8.") from err
    check_size(text, name)
    loader = _Loader(text)
    loader.name = name  # for messages
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
