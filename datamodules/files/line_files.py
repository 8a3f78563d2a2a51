"""Files of lines: found by folders and globs, read plain or compressed, written whole or not at all."""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from glob import glob
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import zstandard

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
ZSTD_CHUNK = 1 << 11  # bytes decompressed at a time, to 64 MiB at most
MOST_LINE = 1 << 24  # bytes of a line
FREE_BYTES, MOST_RATIO = 1 << 26, 200  # a file may unpack to so many bytes, or to so many times its size


def find_files(sources: Iterable[str | Path]) -> list[Path]:
    """Files named by paths, folders (every `.jsonl`, `.jsonl.gz` and `.jsonl.zst` at any depth) and globs, each once.

    Raises:
        ValueError: a source that names no file, or one string in place of a list.
    """
    if isinstance(sources, str | Path):
        raise ValueError(f"files: {str(sources)!r} is not a list; write [{str(sources)!r}].")
    found: dict[Path, Path] = {}  # by what they are, whatever they are called
    for source in map(str, sources):
        path = Path(source)
        names = path.rglob("*") if path.is_dir() else [path] if path.is_file() else map(Path, glob(source, recursive=True))
        files = [name for name in sorted(names) if name.is_file() and (name == path or name.name.endswith(ENDINGS))]
        if not files:
            raise ValueError(f"{source!r} names no file ending in {', '.join(ENDINGS)}; give a file, a folder or a glob.")
        for name in files:
            found.setdefault(name.resolve(), name)
    return list(found.values())


def is_compressed(path: Path) -> bool:
    """Whether a file is read through a decompressor."""
    return path.suffix in (".gz", ".zst")


def lines_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbered lines, decompressed, with line ends; blank lines included.

    Raises:
        ValueError: a file that cannot be read to its end, or unpacks to far more than text does; names the last line read.
    """
    number, size, most = 0, 0, max(FREE_BYTES, MOST_RATIO * path.stat().st_size)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            for number, line in enumerate(_zstd_lines(file) if path.suffix == ".zst" else _lines(file), start=1):
                size += len(line)
                if len(line) > MOST_LINE or (size > most and is_compressed(path)):
                    raise EOFError(f"more than {MOST_LINE >> 20} MiB in a line, or {MOST_RATIO} times the file when unpacked")
                yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as err:
        raise ValueError(f"{path}, after line {number}: cannot be read: {err}") from err


def _lines(file: BufferedIOBase) -> Iterator[bytes]:
    """Lines; one that is too long is cut."""
    return iter(lambda: file.readline(MOST_LINE + 1), b"")


def _zstd_lines(file: BufferedIOBase) -> Iterator[bytes]:
    """Lines of all frames; one that is too long is cut. The library's reader takes a truncated file for a complete one."""
    rest, reader, inside = b"", zstandard.ZstdDecompressor().decompressobj(), False
    while chunk := file.read(ZSTD_CHUNK):
        while chunk:
            *lines, rest = (rest + reader.decompress(chunk)).split(b"\n")
            yield from (line + b"\n" for line in lines)
            if len(rest) > MOST_LINE:
                yield rest
                rest = b""
            inside, chunk = not reader.eof, reader.unused_data if reader.eof else b""
            if not inside:
                reader = zstandard.ZstdDecompressor().decompressobj()
    if inside:
        raise EOFError("compressed file ended before the end-of-frame marker was reached")
    if rest:
        yield rest


@contextmanager
def writing(path: Path) -> Iterator[Callable[[str], object]]:
    """Give a function that writes text to `path`, compressed if its ending says so; the file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as raw, _compressed(raw, path.suffix) as file:
            yield lambda text: file.write(text.encode())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _compressed(raw: IO[bytes], suffix: str) -> AbstractContextManager[Any]:
    if suffix == ".gz":
        return gzip.GzipFile("", "wb", fileobj=raw, mtime=0)  # neither name nor time: the same rows are the same bytes
    return zstandard.ZstdCompressor().stream_writer(raw, closefd=False) if suffix == ".zst" else nullcontext(raw)
