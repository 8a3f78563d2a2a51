"""What others trained starts a stage here, with their tokenizers; what cannot work is refused in one line."""

import json
import string

import pytest
import torch
from architectures import ARCHITECTURES
from policy_runs import LengthReward
from test_pretrain import MIXTURE, trainer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from datamodules import MidtrainDataModule, PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from datamodules.rows.tokenizer import TAGS, TokenizerSettings, load_tokenizer
from datamodules.rows.vocabulary import Vocabulary
from lightning_modules import GRPOModule, MidtrainModule, PretrainModule
from lightning_modules.models.language_model import build_language_model, load_language_model
from lightning_modules.models.lora import LoRA, add_adapters, merged
from lightning_modules.optimizers import AdamW
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY, grouped

TEXT = ["The number of roses equals 12. Define ferns as A; so A = 3 + 4 = 7 - 1.", "How many are there? the Number"] * 20


END = "<|endoftext|>"


def foreign(folder, *, lowercase=False, end=END):
    """A tokenizer as GPT-2's: bytes, one token for unknown text and the end, no tags and no padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase() if lowercase else None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=[END])
    tokenizer.train_from_iterator(TEXT, trainer)
    whole = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=END, eos_token=end, clean_up_tokenization_spaces=True)
    whole.save_pretrained(folder)
    return len(whole)


def model_in(folder, entries, **settings):
    torch.manual_seed(0)
    model = build_language_model(TINY | {"vocab_size": entries} | settings)
    model.save_pretrained(folder)
    return model


def policy(start, **settings):
    params, optimizer = SamplingParams(max_new_tokens=12), AdamW(lr=1e-3)
    return GRPOModule(str(start), LengthReward(), sampling=params, optimizer=optimizer, **grouped(**settings))


def prompts_of(tokenizer):
    return PromptDataModule([Component("2", ["garden"])], tokenizer, graph=PLAIN, prompts_per_rollout=4)


@pytest.mark.parametrize("tied", [True, False])
def test_a_foreign_model_gets_the_tags_it_lacks_and_keeps_its_own_rows(tmp_path, tied):
    entries = foreign(tmp_path / "theirs")
    before = model_in(tmp_path / "theirs", entries, tie_word_embeddings=tied)
    settings = TokenizerSettings(str(tmp_path / "theirs"), add_tags=True)
    data = MidtrainDataModule(MIXTURE, settings, row_length=256, graph=PLAIN, batch_rows=2)
    assert data.tokenizer.get_vocab().keys() >= set(TAGS) and data.tokenizer.eos_token == END
    assert not data.tokenizer.clean_up_tokenization_spaces
    module = MidtrainModule(str(tmp_path / "theirs"), optimizer=AdamW(lr=0.0))
    done = trainer(tmp_path / "run", max_steps=1)
    done.fit(module, data)
    model = module.language_model
    assert model.config.vocab_size == len(data.tokenizer) == entries + 7  # six tags and padding
    for ours, theirs in ((model.get_input_embeddings(), before.get_input_embeddings()), (model.lm_head, before.lm_head)):
        assert torch.equal(ours.weight[:entries], theirs.weight) and ours.weight[entries:].isfinite().all()
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    done.save_checkpoint(tmp_path / "next.ckpt")
    again = load_language_model(str(tmp_path / "next.ckpt"), data.tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_rows_that_are_added_are_the_same_for_policy_and_reference(tmp_path):
    entries = foreign(tmp_path / "theirs")
    model_in(tmp_path / "theirs", entries)
    tokenizer = load_tokenizer(TokenizerSettings(str(tmp_path / "theirs"), add_tags=True))
    one, other = (load_language_model(str(tmp_path / "theirs"), tokenizer) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    data = PromptDataModule(
        [Component("2", ["garden"])], TokenizerSettings(str(tmp_path / "theirs"), True), graph=PLAIN, prompts_per_rollout=2
    )
    module = GRPOModule(
        str(tmp_path / "theirs"),
        LengthReward(),
        sampling=SamplingParams(max_new_tokens=8),
        **grouped(beta=0.1),
        optimizer=AdamW(lr=1e-3),
    )
    done = trainer(tmp_path / "run", max_steps=1)
    done.fit(module, data)
    assert done.callback_metrics["train/rollout_kl_nats"].item() == pytest.approx(0.0, abs=1e-6)


def test_adapters_learn_the_tags_that_a_foreign_model_lacks(tmp_path):
    """All rows of tags start at one place; adapters alone never told one from another: 5.8 nats a tag after 400 updates."""
    model_in(tmp_path, foreign(tmp_path))
    tokenizer = load_tokenizer(TokenizerSettings(str(tmp_path), add_tags=True))
    model = load_language_model(str(tmp_path), tokenizer)
    with pytest.raises(ValueError, match=r"bfloat16 is too coarse; set `lora.weights: float32`"):
        add_adapters(load_language_model(str(tmp_path), tokenizer), LoRA(weights="bfloat16"))
    torch.manual_seed(0)
    add_adapters(model, LoRA(rank=4))
    ids = torch.tensor([tokenizer.encode("".join(TAGS), add_special_tokens=False)])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(100):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ids.shape == (1, len(TAGS)) and loss < 1.5
    plain = merged(model, dict(model.named_parameters()))
    assert plain["model.embed_tokens.weight"].shape[0] == len(tokenizer)


def test_a_tokenizer_without_tags_is_refused_with_the_setting_that_adds_them(tmp_path):
    foreign(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"lacks <question>, .*</answer>; to add them, set `data.init_args.tokenizer: \{name: .*, add_tags: true\}`",
    ):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_an_end_gets_one(tmp_path):
    foreign(tmp_path, end=None)
    with pytest.raises(ValueError, match="an EOS token"):
        load_tokenizer(str(tmp_path))
    tokenizer = load_tokenizer(TokenizerSettings(str(tmp_path), add_tags=True))
    assert tokenizer.eos_token == "[EOS]" and tokenizer.pad_token == "[PAD]"


def test_a_tokenizer_that_loses_text_is_refused(tmp_path):
    foreign(tmp_path, lowercase=True)
    with pytest.raises(ValueError, match="does not give back what it reads: 'The number of Roses"):
        load_tokenizer(TokenizerSettings(str(tmp_path), add_tags=True))


def test_a_tag_that_is_in_the_vocabulary_but_is_cut_is_made_whole(tmp_path):
    foreign(tmp_path)
    rules = json.loads((tmp_path / "tokenizer.json").read_text())
    rules["model"]["vocab"]["<answer>"] = len(rules["model"]["vocab"])
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    tokenizer = load_tokenizer(TokenizerSettings(str(tmp_path), add_tags=True))
    assert tokenizer.encode("<answer>", add_special_tokens=False) == [tokenizer.get_vocab()["<answer>"]]


def test_a_tokenizer_that_loses_letters_of_a_context_is_refused_where_the_context_is_used(tmp_path):
    """Letters instead of bytes, learned from plain English: names with accents could never be written."""
    letters = Tokenizer(models.BPE(unk_token="[UNK]"))
    letters.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["[UNK]", END], initial_alphabet=[*string.printable])
    letters.train_from_iterator(TEXT, trainer)
    PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="[UNK]", eos_token=END).save_pretrained(tmp_path)
    tokenizer = TokenizerSettings(str(tmp_path), add_tags=True)
    PromptDataModule([Component("2", ["garden"])], tokenizer)
    with pytest.raises(ValueError, match="for context 'movie_festival_awards' it does not give back what it reads: 'éma de"):
        PromptDataModule([Component("2", ["movie_festival_awards"])], tokenizer)


def test_a_tokenizer_of_the_same_size_is_told_from_the_right_one(tmp_path):
    """Two tokenizers with as many entries: ids stand for other tokens."""
    one, other = load_tokenizer("garden"), tmp_path / "other"
    rules = one.backend_tokenizer.to_str()
    for before, after in (("roses", "#"), ("oaks", "roses"), ("#", "oaks")):
        rules = rules.replace(f'"Ġ{before}"', f'"Ġ{after}"')
    shuffled = Tokenizer.from_str(rules)
    PreTrainedTokenizerFast(
        tokenizer_object=shuffled, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]", bos_token="[BOS]"
    ).save_pretrained(other)
    assert len(load_tokenizer(str(other))) == len(one)
    module = PretrainModule(TINY, optimizer=AdamW(lr=0.0))
    first = trainer(tmp_path / "first", max_steps=1)
    first.fit(module, PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2))
    first.save_checkpoint(tmp_path / "first.ckpt")
    (tmp_path / "folder").mkdir()
    module.write_folder(tmp_path / "folder", module.whole_weights(), "")
    data = PretrainDataModule(MIXTURE, str(other), row_length=128, graph=PLAIN, batch_rows=2)
    for start in ("first.ckpt", "folder"):
        with pytest.raises(ValueError, match="was trained with another tokenizer"):
            trainer(tmp_path / "second", max_steps=1).fit(MidtrainModule(str(tmp_path / start)), data)
    with pytest.raises(ValueError, match="the checkpoint was trained with another tokenizer"):
        trainer(tmp_path / "third", max_steps=1).fit(PretrainModule(TINY), data, ckpt_path=tmp_path / "first.ckpt")


def test_a_tokenizer_that_cuts_text_otherwise_is_told_too(tmp_path):
    """The same tokens with the same ids, and other rules: what AutoTokenizer makes of a qwen2 folder."""
    one = load_tokenizer("garden")
    other = Tokenizer.from_str(one.backend_tokenizer.to_str())
    other.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    other = PreTrainedTokenizerFast(tokenizer_object=other, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]")
    assert other.get_vocab() == one.get_vocab() and Vocabulary.of(other) != Vocabulary.of(one)


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "opt"])
def test_rows_beyond_the_model_s_positions_are_refused(name, tmp_path):
    short = {"n_positions" if name == "gpt2" else "max_position_embeddings": 16}
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2)
    with pytest.raises(ValueError, match=r"a text of \d+ tokens, but the model has 16 positions; use shorter rows"):
        trainer(tmp_path, max_steps=1).fit(PretrainModule(ARCHITECTURES[name] | short), data)


@pytest.mark.parametrize("name", ["bloom", "mamba"])
@pytest.mark.filterwarnings("ignore:the native engine cannot sample")
def test_models_of_unknown_cost_learn_by_reinforcement(name, tmp_path):
    build_language_model(ARCHITECTURES[name]).save_pretrained(tmp_path / "start")
    module, before = policy(tmp_path / "start"), load_language_model(str(tmp_path / "start"))
    trainer(tmp_path, max_steps=2).fit(module, prompts_of("garden"))
    assert module.ledger(module.compute.state())["phases"]["rollout"]["flops"] is None
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), module.language_model.parameters(), strict=True))


@pytest.mark.parametrize(
    "name", ["mistral with a window", "qwen2 with a window", "gemma2 with a window", "gptj", "gpt2", "mamba"]
)
@pytest.mark.filterwarnings("ignore:the native engine cannot sample")
def test_the_sampler_and_the_update_agree_on_probabilities(name, tmp_path):
    build_language_model(ARCHITECTURES[name]).save_pretrained(tmp_path / "start")
    done = trainer(tmp_path, max_steps=1)
    done.fit(policy(tmp_path / "start", beta=0.1), prompts_of("garden"))
    assert done.callback_metrics["train/sampler_gap_nats"] < 1e-5
    assert abs(done.callback_metrics["train/rollout_kl_nats"]) < 1e-6
