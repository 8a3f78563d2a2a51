"""A loader of packed rows: which process reads which row, with how many workers, and where to resume.

The rows of all windows form one sequence. A global batch is its next `batch_rows * world` rows, of which process r takes the
r-th `batch_rows`: any number of processes reads the same global batches. The state is one integer, the place of the next global
batch. It depends on neither processes nor workers, so both may change when a run resumes.
"""

import os
from collections.abc import Iterator
from itertools import count, islice

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.rows.documents import PackedBatch
from datamodules.rows.mixture_counts import MixtureCounts
from datamodules.rows.windows import MOST_DROPPED, NONE_FITS, Window, Windows
from grammar.checking.pool import leave_signals_to_parent

MOST_ROWS = 1 << 20  # more than a window can have: place = window * MOST_ROWS + row


class PackedRows:
    """Batches of `batch_rows` packed rows; sized, so that Lightning does not read ahead."""

    def __init__(
        self, windows: Windows, *, batch_rows: int, batches: int, repeat: bool = False, rank: int = 0, world: int = 1,
        workers: int = 0, drawn: MixtureCounts | None = None,
    ) -> None:  # fmt: skip
        """Start at the first row.

        Args:
            windows: the source of rows.
            batch_rows: B, rows of a batch.
            batches: number of batches in a pass.
            repeat: start each pass at the first row; false: continue after the last pass.
            rank: number of this process.
            world: number of processes.
            workers: processes that prepare windows ahead of time; 0: this process prepares them on demand.
            drawn: counts the documents of the batches.
        """
        self.windows, self.batch_rows, self.batches, self.repeat = windows, batch_rows, batches, repeat
        self.rank, self.world, self.workers, self.drawn = rank, world, workers, drawn
        self.position = 0

    def __len__(self) -> int:
        return self.batches

    def state_dict(self) -> dict[str, int]:
        """The position of the next global batch."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume from that position."""
        self.position = state["position"]

    def __iter__(self) -> Iterator[PackedBatch]:
        if self.repeat:
            self.position = 0
        for parts, end in islice(self._global_batches(*divmod(self.position, MOST_ROWS)), self.batches):
            self.position = end
            for window, low, high in parts if self.drawn is not None else ():
                self.drawn.add(*_counts(window, low, high), dropped=window.dropped * (low == 0))
            yield PackedBatch.joined([window.batch.rows(low, high) for window, low, high in parts])

    def _global_batches(self, window: int, row: int) -> Iterator[tuple[list[tuple[Window, int, int]], int]]:
        """For each global batch, the parts of this process (window, first row, one past the last), and where the batch ends."""
        step, skip = self.batch_rows * self.world, self.batch_rows * self.rank
        parts: list[tuple[Window, int, int]] = []
        begin, at = -row, 0  # places in the sequence: of the window's first row, of the next row
        for number, rows, loaded in self._walk(window, row):
            while at < begin + rows:
                base = at - at % step
                stop = min(begin + rows, base + step)
                low, high = max(at, base + skip), min(stop, base + skip + self.batch_rows)
                if low < high:
                    parts.append((loaded, low - begin, high - begin))
                if stop == base + step:
                    whole = stop == begin + rows
                    yield parts, (number + whole) * MOST_ROWS + (0 if whole else stop - begin)
                    parts = []
                at = stop
            begin += rows

    def _walk(self, window: int, row: int) -> Iterator[tuple[int, int, Window | None]]:
        """Numbers, rows and windows from `window` on; a window of which this process needs no row is None."""
        sampler = (number for number, needed in self._needed(window, row) if needed)
        # a separate generator, as training depends on the draws from torch's
        loader = DataLoader(
            self.windows, batch_size=None, sampler=sampler, num_workers=self.workers, worker_init_fn=_start_worker,
            generator=torch.Generator(),
        )  # fmt: skip
        made, dropped = iter(loader), 0
        for number, needed in self._needed(window, row):
            loaded = next(made) if needed else None
            if loaded is not None:
                dropped = 0 if len(loaded.batch.tokens_BT) else dropped + loaded.dropped
                if dropped > MOST_DROPPED:
                    raise ValueError(NONE_FITS.format(self.windows.row_length))
            yield number, len(loaded.batch.tokens_BT) if loaded is not None else self.windows.rows, loaded

    def _needed(self, window: int, row: int) -> Iterator[tuple[int, bool]]:
        """Window numbers, and whether this process needs rows of them; it needs all whose number of rows is unknown."""
        step, skip, rows = self.batch_rows * self.world, self.batch_rows * self.rank, self.windows.rows
        for number in count(window):
            if rows is None:
                yield number, True
                continue
            begin = (number - window) * rows - row
            low = max(begin, 0)
            batch = max(0, (low - skip - self.batch_rows) // step + 1)  # the first whose rows here end after `low`
            yield number, batch * step + skip < begin + rows


def _counts(window: Window, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Cells and tokens of the documents in rows `low` ... `high - 1`."""
    row_D, cell_D, tokens_D = window.placed.unbind(1)
    here_D = (row_D >= low) & (row_D < high)
    return cell_D[here_D], tokens_D[here_D]


def _start_worker(worker: int) -> None:
    leave_signals_to_parent()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a worker is one core; threads do not survive a fork
