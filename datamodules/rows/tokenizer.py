"""A byte-level BPE tokenizer, trained on our text by the `tokenizers` library and kept as a Hugging Face folder."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# Ids 0-9, as published.
SPECIAL_TOKENS = (
    "[UNK]", "[PAD]", "[BOS]", "[EOS]", "<question>", "</question>", "<solution>", "</solution>", "<answer>", "</answer>",
)  # fmt: skip
# A word with its space, up to three digits with theirs, or a run of signs.
PIECES = r" ?\p{L}+| ?\d{1,3}| ?[^\s\p{L}\d]+|\s"
TAGS = SPECIAL_TOKENS[4:]
CHUNK = 1000  # repetitions of a piece given to training at a time
SHIPPED = Path(__file__).parents[1] / "tokenizers"


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """Count the pieces of texts without tags: all that training depends on."""
    split, counts = pre_tokenizers.Split(Regex(PIECES), behavior="isolated"), Counter()
    for text in texts:
        for tag in TAGS:
            text = text.replace(tag, "")
        counts.update(piece for piece, _ in split.pre_tokenize_str(text) if not piece.isspace())
    return counts


def train_tokenizer(counts: Mapping[str, int], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer; it depends on the counts, not on their order.

    Args:
        counts: of each piece in the text (`count_pieces`).
        vocab_size: maximum of entries, including special tokens and the 256 bytes.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # a line break is a separate piece, so the pieces stay apart
    lines = (f"{piece}\n" * min(CHUNK, n - at) for piece, n in counts.items() for at in range(0, n, CHUNK))
    tokenizer.train_from_iterator(lines, trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def check_numbers(tokenizer: PreTrainedTokenizerFast, limit: int) -> None:
    """Refuse a tokenizer in which a number up to `limit` is not one token.

    Raises:
        ValueError: names the first such number.
    """
    vocabulary = tokenizer.get_vocab()
    for number in range(limit + 1):
        if f"Ġ{number}" not in vocabulary:
            raise ValueError(
                f"{len(vocabulary)} entries have no room for {number} as one token; raise --vocab-size or lower --numbers."
            )


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Open a tokenizer: the name of a shipped one, or a Hugging Face folder.

    Raises:
        ValueError: neither exists.
    """
    shipped = sorted(path.name for path in SHIPPED.glob("*")) if SHIPPED.is_dir() else []
    folder = SHIPPED / name if name in shipped else Path(name)
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(
            f"tokenizer {name!r} is neither shipped ({', '.join(shipped)}) nor a folder with tokenizer.json; "
            "make one with `python main.py tokenizer --out DIR`."
        )
    return PreTrainedTokenizerFast.from_pretrained(folder)
