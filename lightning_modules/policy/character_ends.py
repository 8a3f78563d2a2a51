"""Where each token of a decoded text ends."""

import json
from bisect import bisect_left
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode


class CharacterEnds:
    """Character offsets of sampled tokens. Encoding the text again may give other tokens than those sampled."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Spell every entry of the tokenizer in bytes.

        Raises:
            ValueError: the tokenizer is not byte-level.
        """
        decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
        if decoder is None or decoder["type"] != "ByteLevel":
            raise ValueError("dense credit needs a byte-level tokenizer; train one with `interplay tokenizer`.")
        byte_of = {sign: byte for byte, sign in bytes_to_unicode().items()}
        added = tokenizer.get_added_vocab()
        self.bytes: dict[int, bytes] = {
            i: token.encode() if token in added else bytes(byte_of[sign] for sign in token)
            for token, i in tokenizer.get_vocab().items()
        }

    def __call__(self, ids: Iterable[int]) -> list[int]:
        """For each token the number of characters complete after it; invalid bytes decode to U+FFFD.

        Ids above the tokenizer's, which an embedding may have, decode to nothing.
        """
        decoder = getincrementaldecoder("utf-8")("replace")
        ends, done = [], 0
        for i in ids:
            done += len(decoder.decode(self.bytes.get(i, b"")))
            ends.append(done)
        return ends


def token_at(ends: Sequence[int], character_end: int) -> int:
    """The token with the last character before `character_end`: the first after which `character_end` are complete.

    Args:
        ends: see `CharacterEnds`.
        character_end: at least 1; beyond the text, and for an incomplete character at its end, it is the last token.
    """
    return min(bisect_left(ends, character_end), len(ends) - 1)
