"""Token ids word by word: a text has few different words, so those met before need no tokenizer.

That gives the ids of the whole text if the tokenizer cuts a text before every space and treats each part by itself, as those that
`tokenizer.py` makes do; it is read from their definition. Any other tokenizer reads whole texts.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from datamodules.rows.tokenizer import PIECES

MOST_WORDS = 1 << 17  # kept; then it starts anew


class Words(dict):
    """A word -> the ids of it with the space before it."""

    def __init__(self, backend: Tokenizer) -> None:
        super().__init__()
        self.backend = backend

    def __missing__(self, word: str) -> list[int]:
        if len(self) >= MOST_WORDS:
            self.clear()
        ids = self[word] = self.encode(" " + word)
        return ids

    def encode(self, text: str) -> list[int]:
        """The ids of a text, from the tokenizer."""
        return self.backend.encode(text, add_special_tokens=False).ids

    def ids(self, text: str) -> list[int]:
        """The ids of a text."""
        first, *words = text.split(" ")
        return [*self.encode(first), *chain.from_iterable(map(self.__getitem__, words))]


def by_word(definition: dict[str, Any]) -> bool:
    """Whether a tokenizer, given as its JSON, cuts texts before every space and treats each part by itself."""
    split = {"type": "Split", "pattern": {"Regex": PIECES}, "behavior": "Isolated", "invert": False}
    steps = (definition["pre_tokenizer"] or {}).get("pretokenizers", [])
    rest = [{key: step[key] for key in ("type", "add_prefix_space", "use_regex") if key in step} for step in steps[1:]]
    return (
        definition["normalizer"] is None and definition["truncation"] is None and definition["padding"] is None
        and steps[:1] == [split] and rest == [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]
        and definition["model"]["type"] == "BPE" and not definition["model"]["dropout"]
        and not any(token["lstrip"] or token["rstrip"] or token["single_word"] or " " in token["content"]
                    for token in definition["added_tokens"])
    )  # fmt: skip


@lru_cache(maxsize=8)
def _own(tokenizer: PreTrainedTokenizerBase, entries: int) -> tuple[Tokenizer, Words | None]:
    """A copy that neither cuts nor pads, whatever a call of the tokenizer has asked for since, and its words."""
    own = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.no_truncation()
    own.no_padding()
    return own, Words(own) if by_word(json.loads(own.to_str())) else None


def token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Ids of each text, without those that a tokenizer would add."""
    own, words = _own(tokenizer, len(tokenizer))  # a tokenizer that gets entries is another one
    if words is None:  # without offsets and masks: twice as fast as calling the tokenizer
        return [encoding.ids for encoding in own.encode_batch_fast(texts, add_special_tokens=False)]
    return [words.ids(text) for text in texts]
