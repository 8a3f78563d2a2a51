"""Which token each id stands for: weights mean nothing without it, and sizes alone do not tell two tokenizers apart."""

from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Self

from transformers import PreTrainedTokenizerBase

from datamodules.rows.tokenizer import SAMPLE, TAGS


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
