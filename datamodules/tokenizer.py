"""A byte-level BPE tokenizer, trained on our own text by the `tokenizers` library, kept as a Hugging Face folder."""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

# Ids 0-9, as published.
SPECIAL_TOKENS = (
    "[UNK]", "[PAD]", "[BOS]", "[EOS]", "<question>", "</question>", "<solution>", "</solution>", "<answer>", "</answer>",
)  # fmt: skip
# A word with its space, up to three digits with theirs, or a run of signs.
PIECES = r" ?\p{L}+| ?\d{1,3}| ?[^\s\p{L}\d]+|\s"
SHIPPED = Path(__file__).parent / "tokenizers"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer; the same texts give the same tokenizer.

    Args:
        texts: documents.
        vocab_size: entries at most; special tokens and the 256 bytes are among them.
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
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return _wrap(tokenizer)


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


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
