"""The samples of an evaluation in JSONL files that only grow, one per process, so that an interrupted one can go on.

All rows of a problem stand together and are written at once. What a crash left of an unfinished write is cut off on opening.
"""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

_INDEX = re.compile(rb'\{"index": (\d+), "sample": (\d+),')


class Place(NamedTuple):
    """Where the rows of a problem stand: bytes `start` ... `end` of a file."""

    path: Path
    start: int
    end: int


class SampleStore:
    """Rows of samples by problem; `samples` rows make a problem complete."""

    def __init__(self, folder: Path, stage: str, samples: int) -> None:
        """Name the files; nothing is read."""
        self.folder, self.stage, self.samples = folder, stage, samples
        self.places: dict[int, Place] = {}
        self.settings = folder / f"{stage}.settings.json"

    def path(self, rank: int) -> Path:
        """The file of process number `rank`."""
        return self.folder / (f"{self.stage}.rank{rank}.jsonl" if rank else f"{self.stage}.jsonl")

    def files(self) -> dict[int, Path]:
        """Process number -> its file, of those that exist."""
        ranks = {0: self.path(0)}
        for path in self.folder.glob(f"{self.stage}.rank*.jsonl"):
            ranks[int(path.suffixes[-2].removeprefix(".rank"))] = path
        return {rank: path for rank, path in sorted(ranks.items()) if path.is_file()}

    def holds(self, identity: dict[str, Any]) -> bool:
        """Whether what is kept was sampled under these settings."""
        return self.settings.is_file() and json.loads(self.settings.read_text(encoding="utf-8")) == identity

    def clear(self) -> None:
        """Remove what is kept."""
        self.settings.unlink(missing_ok=True)
        for path in self.files().values():
            path.unlink()

    def repair(self, rank: int) -> None:
        """Cut what is no complete problem off the end of a process's file; nothing where there is none."""
        path = self.path(rank)
        if path.is_file():
            kept = max((place.end for place in self._scan(path).values()), default=0)
            if kept < path.stat().st_size:
                os.truncate(path, kept)

    def load(self) -> None:
        """Find the complete problems in all files."""
        self.places = {index: place for path in self.files().values() for index, place in self._scan(path).items()}

    def _scan(self, path: Path) -> dict[int, Place]:
        found: dict[int, Place] = {}
        at = start = expected = 0
        with path.open("rb") as file:
            for line in file:
                match = _INDEX.match(line)
                if match is None or int(match[2]) != expected or not line.endswith(b"}\n"):
                    break
                start = at if expected == 0 else start
                at += len(line)
                expected = (expected + 1) % self.samples
                if expected == 0:
                    found[int(match[1])] = Place(path, start, at)
        return found

    def read(self, index: int) -> list[dict[str, Any]] | None:
        """The rows of a problem; None where it is not kept."""
        place = self.places.get(index)
        if place is None:
            return None
        with place.path.open("rb") as file:
            file.seek(place.start)
            return [json.loads(line) for line in file.read(place.end - place.start).splitlines()]

    def append(self, rank: int, rows: list[dict[str, Any]]) -> None:
        """Write rows, whole problems at a time, and see them onto the disk."""
        with self.path(rank).open("ab") as file:
            file.write(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
