"""Which token each id stands for: weights mean nothing without it, and sizes alone do not tell two tokenizers apart."""

from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Self

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from transformers import PreTrainedTokenizerBase

from datamodules.rows.tokenizer import SAMPLE, TAGS


def entries_in_use(tokenizer: PreTrainedTokenizerBase, rows: int) -> int:
    """The number of a tokenizer's entries that need a row of an embedding.

    Special tokens behind the last row that are no tag, end or padding are fillers that no text holds: the tokenizer of
    arXiv:2512.07783 has one, id 2200 `<special_token_4>`, for a model of 2,200 rows. They are named in a warning.

    Args:
        tokenizer: of the data.
        rows: of the embedding.
    """
    beyond = {number: token for token, number in tokenizer.get_vocab().items() if number >= rows}
    needed = {*TAGS, tokenizer.eos_token, tokenizer.pad_token, tokenizer.bos_token}
    idle = [token for token in beyond.values() if token in tokenizer.all_special_tokens and token not in needed]
    if not beyond or len(idle) < len(beyond):
        return len(tokenizer)
    named = ", ".join(f"{token} ({number})" for number, token in sorted(beyond.items()))
    rank_zero_warn(f"the tokenizer's {named} has no row in an embedding of {rows}; no text holds it, so none is needed.")
    return rows


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer in brief.

    Args:
        entries: number of ids.
        digest: of all tokens by id, and of how a sample text without tags is cut.
    """

    entries: int
    digest: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, entries: int | None = None) -> Self:
        """The vocabulary of a tokenizer, or of its first `entries` ids."""
        entries = len(tokenizer) if entries is None else entries
        text = SAMPLE
        for tag in TAGS:
            text = text.replace(tag, "")
        cut = tokenizer.encode(text, add_special_tokens=False)
        tokens = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number < entries)
        return cls(entries, blake2b(repr((tokens, cut)).encode(), digest_size=8).hexdigest())

    def check(self, tokenizer: PreTrainedTokenizerBase, weights: str) -> None:
        """Refuse to use weights with a tokenizer that does not begin with this vocabulary; it may have further entries.

        Args:
            tokenizer: the one of the data.
            weights: where the weights come from, for the message.

        Raises:
            ValueError: an id stands for another token, or text is cut differently.
        """
        if len(tokenizer) < self.entries or Vocabulary.of(tokenizer, self.entries) != self:
            raise ValueError(
                f"{weights} was trained with another tokenizer ({self.entries} entries, {self.digest}) than "
                f"`data.init_args.tokenizer` ({len(tokenizer)} entries, {Vocabulary.of(tokenizer).digest}); name the one it was "
                "trained with, e.g. the `huggingface` folder beside it."
            )

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and folders."""
        return asdict(self)
