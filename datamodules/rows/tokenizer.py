"""A byte-level BPE tokenizer, trained on our text by the `tokenizers` library and kept as a Hugging Face folder."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from datamodules.problems.synthesis import ANSWER
from datamodules.rows.overflowing_bpe import LINES, learn_merges

# Ids 0-9, as published.
SPECIAL_TOKENS = (
    "[UNK]", "[PAD]", "[BOS]", "[EOS]", "<question>", "</question>", "<solution>", "</solution>", "<answer>", "</answer>",
)  # fmt: skip
# A word with its space, up to three digits with theirs, or a run of signs.
PIECES = r" ?\p{L}+| ?\d{1,3}| ?[^\s\p{L}\d]+|\s"
# As the tokenizer of arXiv:2512.07783 cuts: its pattern has two backslashes for one, so that the class at its end does not mean
# "no blank, letter or digit" but "none of \ s p { } L N"; text is cut at these letters, then as GPT-2 cuts words and numbers.
RELEASED = (
    r"-|[(){}]| ?[^\\sp{L}N]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
)
Splitting = Literal["words", "released"]
TAGS = SPECIAL_TOKENS[4:]
CHUNK = 1000  # repetitions of a piece given to training at a time
SHIPPED = Path(__file__).parents[1] / "tokenizers"
SAMPLE = (
    "<question> The number of Roses in Maple Zoo equals 3 more than the difference of 12 and the number of oaks. How many Roses "
    "are there? </question> <solution> Define Roses in Maple Zoo as x; so Q = 12 - k = 12 - 105 = -93; x = 3 + Q = 3 * 4 = 12. "
    "</solution> <answer> -90 </answer>"
)


def splitter(splitting: Splitting) -> pre_tokenizers.PreTokenizer:
    """What cuts text into pieces: at "words" and numbers, or as the "released" tokenizer of the paper does."""
    patterns = (PIECES,) if splitting == "words" else RELEASED
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in patterns])


def count_pieces(texts: Iterable[str], splitting: Splitting = "words") -> Counter[str]:
    """Count the pieces of texts without tags: all that training depends on."""
    split, counts = splitter(splitting), Counter()
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
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    # a line break is a separate piece, so the pieces stay apart
    lines = (f"{piece}\n" * min(CHUNK, n - at) for piece, n in counts.items() for at in range(0, n, CHUNK))
    tokenizer.train_from_iterator(lines, trainer=trainer)
    return _as_folder(tokenizer)


def train_released(counts: Mapping[str, int], vocab_size: int, documents: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer that cuts as the paper's does, its counts overflowing as those did (`overflowing_bpe.py`).

    Args:
        counts: of each piece in the text (`count_pieces`, "released").
        vocab_size: entries, special tokens and the 256 bytes included.
        documents: that were counted.
    """
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled: Counter[str] = Counter()
    for piece, count in counts.items():
        spelled["".join(part for part, _ in letters.pre_tokenize_str(piece))] += count
    entries = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = learn_merges(spelled, 4 * vocab_size, LINES / documents)
    kept, known = [], dict.fromkeys(entries)
    for pair in merges:
        if len(known) == vocab_size:
            break
        kept.append(pair)
        known["".join(pair)] = None
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(known)}, kept, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([splitter("released"), letters])
    return _as_folder(tokenizer)


def _as_folder(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
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


@dataclass(frozen=True)
class TokenizerSettings:
    """A tokenizer that may have to be completed.

    Args:
        name: of a shipped one, or a Hugging Face folder.
        add_tags: add the tags, EOS and padding that it lacks, behind its own entries; the model's embedding grows with it.
    """

    name: str
    add_tags: bool = False

    @classmethod
    def of(cls, value: "str | Mapping[str, Any] | TokenizerSettings") -> "TokenizerSettings":
        """From a config's value."""
        return value if isinstance(value, TokenizerSettings) else cls(value) if isinstance(value, str) else cls(**value)

    @property
    def folder(self) -> Path:
        """The shipped folder of that name, or else the folder itself."""
        return SHIPPED / self.name if (SHIPPED / self.name / "tokenizer.json").is_file() else Path(self.name)


def load_tokenizer(tokenizer: str | TokenizerSettings) -> PreTrainedTokenizerFast:
    """Open a tokenizer: the name of a shipped one, or a Hugging Face folder.

    Raises:
        ValueError: neither exists, or the tokenizer cannot carry the training format (see `check_format`).
    """
    settings = TokenizerSettings.of(tokenizer)
    if not (settings.folder / "tokenizer.json").is_file():
        shipped = sorted(path.name for path in SHIPPED.glob("*")) if SHIPPED.is_dir() else []
        raise ValueError(
            f"tokenizer {settings.name!r} is neither shipped ({', '.join(shipped)}) nor a folder with tokenizer.json; "
            "make one with `interplay tokenizer --out DIR`."
        )
    loaded = PreTrainedTokenizerFast.from_pretrained(settings.folder)
    loaded.clean_up_tokenization_spaces = False  # it would change what a model wrote
    if settings.add_tags:
        loaded.add_tokens([AddedToken(tag, normalized=False) for tag in _not_whole(loaded)])
        named = {"eos_token": loaded.eos_token, "pad_token": loaded.pad_token}
        loaded.add_special_tokens({key: f"[{key[:3].upper()}]" for key, token in named.items() if token is None})
    if loaded.pad_token is None:
        loaded.pad_token = loaded.eos_token  # no loss and no attention touches padding
    check_format(loaded, settings.name)
    return loaded


def check_format(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Refuse a tokenizer that cannot carry the training format.

    Raises:
        ValueError: a tag is not one token, there is no EOS, or text does not come back as it went in.
    """
    where, missing = f"tokenizer {name!r}", _not_whole(tokenizer)
    missing += ["an EOS token"] if tokenizer.eos_token is None else []
    if missing:
        raise ValueError(
            f"{where} lacks {', '.join(missing)}; to add them, set `data.init_args.tokenizer: {{name: {name}, add_tags: true}}`."
        )
    check_text(tokenizer, SAMPLE, where)


def check_text(tokenizer: PreTrainedTokenizerFast, text: str, where: str) -> None:
    """Refuse a tokenizer that does not give back a text.

    Raises:
        ValueError: `where`, and what became of the text.
    """
    back = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False), skip_special_tokens=False)
    if back != text:
        at = next((i for i, (a, b) in enumerate(zip(back, text, strict=False)) if a != b), min(len(back), len(text)))
        raise ValueError(
            f"{where} does not give back what it reads: {text[at : at + 20]!r} became {back[at : at + 20]!r}; use one that "
            "keeps letters, case, spaces and signs."
        )


def _not_whole(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The tags that are not one token."""
    known = tokenizer.get_vocab()
    return [tag for tag in TAGS if tag not in known or tokenizer.encode(tag, add_special_tokens=False) != [known[tag]]]


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a solution."""
    return [tokenizer.convert_tokens_to_ids(ANSWER[1]), tokenizer.eos_token_id]
