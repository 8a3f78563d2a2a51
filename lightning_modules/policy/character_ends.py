"""Where in a decoded text each of its tokens ends."""

import json
from bisect import bisect_left
from codecs import getincrementaldecoder
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode


class CharacterEnds:
    """Character offsets of sampled tokens. Encoding their text again would not do: a model may spell it with other tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Spell every entry of the tokenizer in bytes.

        Raises:
            ValueError: the tokenizer is not a byte-level one, whose tokens are strings of bytes.
        """
        decoder = json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]
        if decoder is None or decoder["type"] != "ByteLevel":
            raise ValueError("dense credit needs a byte-level tokenizer, such as `python main.py tokenizer` makes.")
        byte_of = {sign: byte for byte, sign in bytes_to_unicode().items()}
        added = tokenizer.get_added_vocab()
        self.bytes: dict[int, bytes] = {
            i: token.encode() if token in added else bytes(byte_of[sign] for sign in token)
            for token, i in tokenizer.get_vocab().items()
        }

    def __call__(self, ids: Iterable[int]) -> list[int]:
        """For each token the number of characters that are complete with it; bytes that are no text decode to U+FFFD.

        Ids beyond the tokenizer's, which an embedding may hold, decode to nothing.
        """
        decoder = getincrementaldecoder("utf-8")("replace")
        ends, done = [], 0
        for i in ids:
            done += len(decoder.decode(self.bytes.get(i, b"")))
            ends.append(done)
        return ends


def token_at(ends: Sequence[int], character_end: int) -> int:
    """The token that holds the last character before `character_end`: the first with which so many are complete.

    Args:
        ends: see `CharacterEnds`.
        character_end: at least 1, at most the length of the text; an unfinished character at its end is the last token's.
    """
    return min(bisect_left(ends, character_end), len(ends) - 1)
