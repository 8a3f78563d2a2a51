"""How rows of a pass lie when they go through a model: one below the other with padding, or side by side without.

Side by side each row is a document to one of the attention backends that take boundaries of documents, as in pre-training; the
head sees sampled positions alone. Shapes: N rows, T tokens, P outputs: N (T-1) positions with padding, else the sampled ones.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from datamodules.rows.documents import IGNORE
from lightning_modules.models.attention import Backend
from lightning_modules.models.passes import Rows, on_device


class Padded:
    """Right-padded rows under a causal mask: padding is never seen, so there is no mask to pass.

    label_P: the token that each position predicts, or IGNORE where none was sampled.
    """

    def __init__(self, rows: Rows) -> None:
        self.tokens_NT, self.shape = rows.tokens_NT[:, :-1], rows.mask_NT.shape
        self.label_P = torch.where(rows.mask_NT, rows.tokens_NT[:, 1:], IGNORE).flatten()

    def outputs(self, model: PreTrainedModel, *, states: bool = False) -> tuple[Tensor, Tensor | None]:
        """[P, V] logits of a causal LM and, if asked, its [P, H] last states."""
        found = model(input_ids=self.tokens_NT, use_cache=False, output_hidden_states=states)
        return found.logits.flatten(0, 1), found.hidden_states[-1].flatten(0, 1) if states else None

    def states(self, model: PreTrainedModel) -> Tensor:
        """[P, H] last states of a model without a head."""
        return model(input_ids=self.tokens_NT, use_cache=False).last_hidden_state.flatten(0, 1)

    def spread(self, values_P: Tensor) -> Tensor:
        """[P] -> [N, T-1]."""
        return values_P.view(self.shape)


class SideBySide:
    """Rows as the documents of one long row; see Padded, but there is an output for sampled positions alone."""

    def __init__(self, rows: Rows, backend: Backend) -> None:
        self.backend, self.shape, device = backend, rows.mask_NT.shape, rows.tokens_NT.device
        # places are found on the host, so that it need not ask the device for shapes
        first_N, end_N = np.array(rows.lengths).T
        size_N = end_N - 1  # the last token predicts nothing
        start_N, self.longest = size_N.cumsum() - size_N, int(size_N.max())
        row_F = np.arange(len(size_N)).repeat(size_N)
        position_F = np.arange(len(row_F)) - start_N[row_F]
        token_F, output_F = (row_F * width + position_F for width in (rows.tokens_NT.shape[1], self.shape[1]))
        sampled_P = (position_F >= first_N[row_F] - 1).nonzero()[0]
        place_F, self.position_F, self.document_F = on_device(np.stack([token_F, position_F, row_F + 1]), device)
        by_P = np.stack([sampled_P, token_F[sampled_P] + 1, output_F[sampled_P]])
        self.sampled_P, label_at_P, self.at_P = on_device(by_P, device)
        edges = np.append(start_N, len(row_F)).astype(np.int32)
        self.edges_D = on_device(edges, device) if backend.needs_edges else None
        flat = rows.tokens_NT.flatten()
        self.tokens_F, self.label_P = flat.index_select(0, place_F), flat.index_select(0, label_at_P)

    def _run(self, model: PreTrainedModel, **settings: Any) -> Any:
        with self.backend.attending(model):
            where = self.backend.arguments(self.document_F[None], self.edges_D)
            if "max_length_q" in where:
                where |= dict.fromkeys(("max_length_q", "max_length_k"), self.longest)
            return model(
                input_ids=self.tokens_F[None], position_ids=self.position_F[None], use_cache=False, **where, **settings
            )  # fmt: skip

    def outputs(self, model: PreTrainedModel, *, states: bool = False) -> tuple[Tensor, Tensor | None]:
        """[P, V] logits of a causal LM and, if asked, its [P, H] last states."""
        found = self._run(model, output_hidden_states=states)
        last = found.hidden_states[-1][0].index_select(0, self.sampled_P) if states else None
        return found.logits[0].index_select(0, self.sampled_P), last

    def states(self, model: PreTrainedModel) -> Tensor:
        """[P, H] last states of a model without a head."""
        return self._run(model).last_hidden_state[0].index_select(0, self.sampled_P)

    def spread(self, values_P: Tensor) -> Tensor:
        """[P] -> [N, T-1], 0 where nothing was sampled."""
        flat = values_P.new_zeros(self.shape[0] * self.shape[1])
        return flat.index_copy(0, self.at_P, values_P).view(self.shape)


Layout = Padded | SideBySide
