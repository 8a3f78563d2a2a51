"""The exported folder means in transformers what the model means here. Other versions and libraries: tests/interop."""

import json
import shutil

import pytest
import torch
import yaml
from architectures import ARCHITECTURES
from minute_recipe import minute_config
from safetensors.torch import load_file
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen2Tokenizer, pipeline

import main
from datamodules.rows.documents import encode, token_ids
from datamodules.rows.tokenizer import TAGS, load_tokenizer
from lightning_modules.models.folder import as_llama, read_folder, write_folder
from lightning_modules.models.language_model import build_language_model, load_language_model
from lightning_modules.rollout import SamplingParams, sample
from tests_support import TINY

STOP = [9, 3]
SAMPLING = SamplingParams(temperature=0.7, top_p=0.9, max_new_tokens=40)


def written(folder, model, tokenizer):
    folder.mkdir()
    facts = {"weights": "w", "init_from": None, "example": {"problem": "P.", "question": "Q?", "modulus": 5}}
    write_folder(folder, model.config, model.state_dict(), tokenizer, STOP, SAMPLING.as_generation_config(), facts)
    return folder


@pytest.fixture
def solver(synthesis, tokenizer):
    """A model that has learned a few solutions by heart, so that greedy text means something; biases are not 0."""
    torch.manual_seed(0)
    model = build_language_model(TINY | {"rope_theta": 1e6})
    for layer in model.model.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            torch.nn.init.normal_(projection.bias)
    documents = encode([synthesis.example("train", i) for i in range(3)], tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(120):
        for document in documents:
            ids = torch.tensor([document.ids])
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def test_auto_classes_read_generate_and_stop_as_we_do(solver, synthesis, tokenizer, tmp_path):
    folder = written(tmp_path / "huggingface", solver, tokenizer)
    theirs, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "LlamaForCausalLM"
    examples = [synthesis.example("train", i) for i in range(20)]
    for text in (example.prompt + example.response for example in examples):
        assert theirs(text, add_special_tokens=False)["input_ids"] == token_ids([text], tokenizer)[0]
        assert theirs(text)["input_ids"] == token_ids([text], tokenizer)[0]
    prompts = token_ids([example.prompt for example in examples[:3]], tokenizer)
    done = sample(solver, prompts, 1, SamplingParams(temperature=0.0, max_new_tokens=200), stop_ids=STOP, pad_id=1)
    ours = tokenizer.batch_decode(done.rows())
    assert all(text.endswith("</answer>") for text in ours)
    batch = theirs([example.prompt for example in examples[:3]], return_tensors="pt", padding=True, add_special_tokens=False)
    tokens = model.generate(**batch, do_sample=False, max_new_tokens=200)[:, batch["input_ids"].shape[1] :]
    assert [text.replace("[PAD]", "") for text in theirs.batch_decode(tokens)] == ours
    pipe = pipeline("text-generation", model=str(folder), device="cpu")
    found = pipe([example.prompt for example in examples[:3]], return_full_text=False, do_sample=False, max_new_tokens=200)
    assert [one[0]["generated_text"] for one in found] == ours


def test_the_folder_is_the_same_function_and_becomes_the_same_model_again(solver, tokenizer, tmp_path):
    folder, tokens = written(tmp_path / "huggingface", solver, tokenizer), torch.arange(50)[None]
    opened, (again, vocabulary) = AutoModelForCausalLM.from_pretrained(folder), read_folder(folder)
    with torch.no_grad():
        assert torch.equal(opened(tokens).logits, solver(tokens).logits)
    assert again.config.to_dict() == solver.config.to_dict() and again.training
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), solver.state_dict().values(), strict=True))
    vocabulary.check(tokenizer, "the folder")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")  # tied: kept once


def test_a_folder_that_others_trained_further_is_opened_as_it_is(solver, tokenizer, tmp_path):
    """A bias that Qwen2 does not have has learned: the model stays a Llama."""
    folder = written(tmp_path / "huggingface", solver, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.nn.init.ones_(model.model.layers[0].self_attn.o_proj.bias)
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"model.safetensors is not the file that was exported.*remove .*interplay.json"):
        load_language_model(str(folder))
    (folder / "interplay.json").unlink()
    assert load_language_model(str(folder)).config.model_type == "llama"


@pytest.mark.parametrize("at", [-1, 40, 3000])
def test_a_flipped_bit_in_a_folder_is_noticed(at, solver, tokenizer, tmp_path):
    path = written(tmp_path / "huggingface", solver, tokenizer) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << 6
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors is not the file that was exported: damaged"):
        load_language_model(str(path.parent))


def test_keys_that_other_versions_read_are_there(solver, tokenizer, tmp_path):
    folder = written(tmp_path / "huggingface", solver, tokenizer)
    config, settings, generation = (
        json.loads((folder / name).read_text()) for name in ("config.json", "tokenizer_config.json", "generation_config.json")
    )
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 1e6
    assert [config[f"{kind}_token_id"] for kind in ("bos", "eos", "pad")] == [2, 3, 1]
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast" and settings["padding_side"] == "left"
    assert settings["model_max_length"] == 512 and "extra_special_tokens" not in settings
    assert generation["eos_token_id"] == STOP and generation["pad_token_id"] == 1 and generation["bos_token_id"] == 2
    assert generation["do_sample"] and (generation["temperature"], generation["top_p"], generation["top_k"]) == (0.7, 0.9, 0)
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    special = {token["content"]: token["special"] for token in added}
    assert not any(special[tag] for tag in TAGS) and all(special[token] for token in ("[PAD]", "[EOS]", "[BOS]", "[UNK]"))


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "gpt_neox", "opt"])
def test_other_architectures_stay_what_they_are(name, tokenizer, tmp_path):
    torch.manual_seed(0)
    model = build_language_model(ARCHITECTURES[name]).eval()
    folder, text = written(tmp_path / "huggingface", model, tokenizer), "<question> The number of roses equals 12. </question>"
    assert AutoConfig.from_pretrained(folder).model_type == name
    assert AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"] == token_ids([text], tokenizer)[0]
    with torch.no_grad():
        tokens = torch.arange(50)[None]
        assert torch.equal(AutoModelForCausalLM.from_pretrained(folder)(tokens).logits, model(tokens).logits)
    assert all(torch.equal(a, b) for a, b in zip(load_language_model(str(folder)).parameters(), model.parameters(), strict=True))


def test_a_qwen2_whose_tokenizer_is_qwen2_s_own_stays_one(tmp_path):
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    theirs = Qwen2Tokenizer(vocab=letters, merges=[])
    theirs.add_tokens(list(TAGS))
    theirs.save_pretrained(tmp_path / "theirs")
    opened = load_tokenizer(str(tmp_path / "theirs"))
    model = build_language_model(TINY)
    folder = written(tmp_path / "huggingface", model, opened)
    assert AutoConfig.from_pretrained(folder).model_type == "qwen2"
    assert AutoTokenizer.from_pretrained(folder)(" 12")["input_ids"] == opened(" 12")["input_ids"]


def test_a_qwen2_with_a_window_has_no_llama_and_says_so(tokenizer, tmp_path):
    model = build_language_model(TINY | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1})
    assert as_llama(model.config) is model.config
    with pytest.warns(UserWarning, match="AutoTokenizer cuts text otherwise for a model of type qwen2"):
        written(tmp_path / "huggingface", model, tokenizer)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Four updates, a checkpoint after each, and a test."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "minute.yaml").write_text(yaml.safe_dump(minute_config("pretrain")))
    words = ["--config", str(folder / "minute.yaml"), "--trainer.default_root_dir", str(folder / "first")]
    assert main.main(["fit", *words]) == 0
    assert main.main(["test", *words, "--ckpt_path", str(folder / "first/checkpoints/last.ckpt")]) == 0
    return folder / "first"


def test_the_card_tells_training_prompt_judging_and_scores(run):
    card = (run / "huggingface/README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["pipeline_tag"] == "text-generation"
    tokens = json.loads((run / "training.json").read_text())["tokens"]
    assert f"4 updates on {tokens:,} tokens." in card and "| garden | normalforward | 2 |" in card
    assert "modulus=5" in card
    scores = json.loads((run / "test/pass_at_k.json").read_text())["ID"]["executable"]["pass@1"]
    assert "| ID | 4 | " in card and f"{scores['mean']:.2f} [{scores['low']:.2f}, {scores['high']:.2f}] |" in card


def test_scores_of_other_weights_do_not_enter_the_card(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    kept = json.loads((tmp_path / "run/test/evaluation.json").read_text())
    kept["settings"]["weights"] = "of another model"
    (tmp_path / "run/test/evaluation.json").write_text(json.dumps(kept))
    assert main.main(["export", str(tmp_path / "run")]) == 0
    assert "These weights have not been evaluated." in (tmp_path / "run/huggingface/README.md").read_text()


def test_the_example_of_the_card_runs(run):
    """The page's own code, from the folder's parent."""
    card = (run / "huggingface/README.md").read_text().replace('folder = "huggingface"', f'folder = "{run}/huggingface"')
    first, second = (block.partition("```")[0] for block in card.split("```python")[1:])
    names = {}
    exec(first, names)
    exec(second, names)
    assert names["graph"].modulus == 5 and names["report"].errors  # four updates teach nobody


def test_export_writes_an_old_run_again(run, tmp_path):
    """As earlier versions wrote it: a qwen2 folder with a tokenizer that AutoTokenizer misreads."""
    shutil.copytree(run, tmp_path / "old")
    folder, kept = tmp_path / "old/huggingface", load_language_model(str(run / "checkpoints/last.ckpt"))
    shutil.rmtree(folder)
    kept.save_pretrained(folder)
    load_tokenizer("garden").save_pretrained(folder)
    assert main.main(["export", str(tmp_path / "old")]) == 0
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "interplay.json"):
        ours, theirs = (json.loads((one / name).read_text()) for one in (run / "huggingface", folder))
        if name == "interplay.json":
            ours["example"] = theirs["example"] = None
        assert ours == theirs, name
    assert (folder / "model.safetensors").read_bytes() == (run / "huggingface/model.safetensors").read_bytes()
    assert "4 updates on" in (folder / "README.md").read_text()


def test_export_of_one_checkpoint_needs_a_place(run, tmp_path, capsys):
    checkpoint = run / "checkpoints/last.ckpt"
    assert main.main(["export", str(checkpoint)]) == 2
    assert "name the folder to write by --out" in capsys.readouterr().err
    assert main.main(["export", str(checkpoint), "--out", str(tmp_path / "two")]) == 0
    ours, theirs = load_language_model(str(checkpoint)), load_language_model(str(tmp_path / "two"))
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert "## Scores" in (tmp_path / "two/README.md").read_text()


def test_export_does_not_replace_what_is_not_a_model(run, tmp_path, capsys):
    checkpoint = str(run / "checkpoints/last.ckpt")
    for kept in ("notes.txt", "other/model.safetensors", "huggingface/checkpoints/last.ckpt"):
        out = tmp_path / kept.replace("/", "_")
        (out / kept).parent.mkdir(parents=True)
        (out / kept).write_text("mine")
        (out / "config.json").write_text("{}")
        assert main.main(["export", checkpoint, "--out", str(out)]) == 2
        assert "holds something else than a model" in capsys.readouterr().err and (out / kept).read_text() == "mine"
