"""Usages of Lightning, transformers and tokenizers other than those of the shipped configs."""

import json

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback
from policy_runs import LengthReward
from test_pretrain import HELD_OUT, MIXTURE, trainer
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

from callbacks import (
    Checkpoint,
    ComputeLedger,
    GradientNorm,
    HuggingFaceExport,
    Memory,
    MixtureRecord,
    NonFiniteLoss,
    RewindLogs,
    SampleWriter,
    Throughput,
    VerifiedPassAtK,
)
from datamodules import PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from datamodules.rows.documents import encode_prompts
from datamodules.rows.tokenizer import load_tokenizer
from lightning_modules import GRPOModule, PretrainModule
from lightning_modules.evaluation import Evaluation
from lightning_modules.models import group_forward, label_scores
from lightning_modules.models.folder import write_folder
from lightning_modules.models.group_forward import grouped_logp
from lightning_modules.models.language_model import build_language_model, disable_dropout
from lightning_modules.models.lora import LoRA, add_adapters, merged
from lightning_modules.models.sharding import weights_digest
from lightning_modules.optimizers import AdamW, Muon
from lightning_modules.policy.trust_region import ReferencePolicy
from lightning_modules.rollout import Completions, SamplingParams
from tests_support import PLAIN, TINY, grouped

SHORT = Evaluation(samples=2, sampling=SamplingParams(max_new_tokens=6))
EXPERTS = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "vocab_size": 576, "max_position_embeddings": 256,
}  # fmt: skip
MIXTRAL = {"model_type": "mixtral", **EXPERTS, "num_local_experts": 4}
QWEN3_MOE = {
    "model_type": "qwen3_moe", **EXPERTS, "moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 16,
}  # fmt: skip
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {**EXPERTS, "head_dim": 16},
    "vision_config": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
}


def data(**settings):
    return PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2, held_out=HELD_OUT, **settings)


def test_a_model_is_validated_before_between_and_after_training(tmp_path):
    """What `validate` leaves in a metric are inference tensors, to which a validation in training cannot add."""
    module, evaluated = PretrainModule(TINY, evaluation=SHORT), {"limit_val_batches": 1, "val_check_interval": 1}
    losses = []
    for _ in range(2):
        own = trainer(tmp_path, **evaluated)
        losses.append(own.validate(module, data(), verbose=False)[0]["val/loss"])
        own.fit(module, data())
        losses.append(own.callback_metrics["val/loss"].item())
        losses.append(own.validate(module, data(), verbose=False)[0]["val/loss"])
    assert losses[1] == pytest.approx(losses[2]) and losses[2] == pytest.approx(losses[3])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("every", [1, 2])
def test_checkpoints_are_saved_where_there_is_nothing_to_validate_on(tmp_path, every):
    prompts = PromptDataModule([Component("2", ["garden"])], "garden", graph=PLAIN, prompts_per_rollout=2)
    torch.manual_seed(0)
    build_language_model(TINY).save_pretrained(tmp_path / "start")
    module = GRPOModule(str(tmp_path / "start"), reward=LengthReward(), **grouped(sampling=SamplingParams(max_new_tokens=4)))
    saved = []

    class Kept(Checkpoint):
        def _save_checkpoint(self, trainer, filepath):
            super()._save_checkpoint(trainer, filepath)
            saved.append(trainer.global_step)

    settings = {"max_steps": 5, "limit_val_batches": 1.0, "val_check_interval": every, "check_val_every_n_epoch": None}
    own = trainer(tmp_path, callbacks=[Kept(every_n_train_steps=2)], enable_checkpointing=True, **settings)
    own.fit(module, prompts)
    assert saved[:2] == [2, 4]


@pytest.mark.parametrize("settings", [{"log_every_n_steps": 0}, {"barebones": True}])
def test_a_trainer_that_logs_nothing(tmp_path, settings):
    watching = [RewindLogs(), GradientNorm(), Memory(), MixtureRecord(), NonFiniteLoss(), Throughput()]
    plain = {"max_steps": 3, "accelerator": "cpu", "default_root_dir": tmp_path}
    if "barebones" not in settings:
        plain |= {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
        plain["callbacks"] = [*watching, Checkpoint(dirpath=tmp_path)]
        plain["enable_checkpointing"] = True
    own = Trainer(**plain, **settings)
    own.fit(PretrainModule(TINY), data())
    assert own.global_step == 3


def test_compute_is_counted_once_when_a_module_goes_on_from_its_own_checkpoint(tmp_path):
    torch.manual_seed(0)
    module, found = PretrainModule(TINY, optimizer=AdamW(lr=0.0)), []
    for steps, start in ((2, None), (4, tmp_path / "two.ckpt")):
        own = trainer(tmp_path, max_steps=steps, callbacks=[ComputeLedger()], enable_checkpointing=False)
        own.fit(module, data(), ckpt_path=start)
        own.save_checkpoint(tmp_path / "two.ckpt")
        found.append(json.loads((tmp_path / "compute.json").read_text()))
    assert found[1]["phases"]["update"]["tokens"] == int(module.tokens_seen)
    assert found[0]["phases"]["update"]["tokens"] < int(module.tokens_seen)


def test_an_evaluation_that_is_interrupted_leaves_nothing_behind(tmp_path):
    class Broken(Callback):
        def on_validation_batch_start(self, *args):
            raise RuntimeError("stop")

    module, prompts = PretrainModule(TINY, evaluation=SHORT), data()
    with pytest.raises(RuntimeError, match="stop"):
        trainer(tmp_path, limit_val_batches=1, callbacks=[SampleWriter(), Broken()]).validate(module, prompts, verbose=False)
    assert module.recall(0) is None
    trainer(tmp_path, limit_val_batches=1, val_check_interval=1).fit(module, data())


def test_looking_at_held_out_problems_draws_no_random_number():
    prompts = PromptDataModule([Component("2", ["garden"])], "garden", graph=PLAIN, held_out=HELD_OUT)
    prompts.trainer = Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, enable_model_summary=False)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert len([*prompts.val_dataloader()]) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reference_that_is_built_before_it_is_read_draws_no_random_number():
    """A resumed run loads it again, where the run that was left alone did not."""
    torch.manual_seed(0)
    reference, before = ReferencePolicy(lambda: build_language_model(TINY)), torch.get_rng_state()
    reference.on(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("architecture", [MIXTRAL, QWEN3_MOE], ids=["mixtral", "qwen3_moe"])
def test_adapters_of_a_mixture_of_experts_are_merged(architecture):
    torch.manual_seed(0)
    model = build_language_model(architecture)
    add_adapters(model, LoRA(rank=2))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    ids = torch.randint(0, 500, (1, 9))
    plain = build_language_model(architecture)
    plain.load_state_dict(merged(model, model.state_dict()))
    assert torch.allclose(plain.eval()(ids).logits, model.eval()(ids).logits, atol=1e-5)
    assert not any(part in name for name, p in model.named_parameters() if ".lora_" in name for part in ("experts", "gate."))


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [(TINY, ["embed_tokens"]), (TINY, ["lm_head"]), (MIXTRAL, ["q_proj", "experts"])],
    ids=["embedding", "tied head", "experts"],
)
def test_adapters_that_cannot_be_merged_are_refused(architecture, targets):
    with pytest.raises(ValueError, match=r"may name linear layers of their own .* do not: "):
        add_adapters(build_language_model(architecture), LoRA(rank=2, targets=targets))


def test_an_untied_head_can_be_adapted():
    torch.manual_seed(0)
    model = build_language_model(TINY | {"tie_word_embeddings": False})
    add_adapters(model, LoRA(rank=2, targets=["lm_head"]))
    torch.nn.init.normal_(model.lm_head.lora_B["default"].weight)
    plain, ids = build_language_model(TINY | {"tie_word_embeddings": False}), torch.randint(0, 500, (1, 9))
    plain.load_state_dict(merged(model, model.state_dict()))
    assert torch.allclose(plain.eval()(ids).logits, model.eval()(ids).logits, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logits_of_groups_exist_at_once_only_if_they_are_few(tiny_model, monkeypatch, temperature):
    tokens = torch.randint(10, 500, (4, 20), generator=torch.Generator().manual_seed(0))
    tokens[1, :8], tokens[3, :8] = tokens[0, :8], tokens[2, :8]
    mask = torch.zeros(4, 19, dtype=torch.bool)
    mask[:, 7:] = True

    def found(whole):
        tiny_model.zero_grad()
        logp = grouped_logp(tiny_model, tokens, mask, temperature=temperature, whole=whole)
        logp.square().sum().backward()
        return logp.detach(), [p.grad.clone() for p in tiny_model.parameters()]

    (expected, gradients), widths = found(False), []
    for module in (label_scores, group_forward):
        monkeypatch.setattr(module, "fits_whole", lambda *_: False, raising=False)
    monkeypatch.setattr(label_scores, "LOGITS_AT_ONCE", 5 * TINY["vocab_size"])
    hook = tiny_model.get_output_embeddings().register_forward_hook(lambda _, __, output: widths.append(output.shape[-1]))
    logp, again = found(False)
    hook.remove()
    assert widths == [TINY["hidden_size"]]
    assert torch.allclose(logp, expected, atol=1e-5)
    for one, other in zip(again, gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-4)


def test_muon_takes_linear_layers_alone():
    """Not the head of a critic, which is a vector, nor experts in one tensor, routers, or decay rates of a state space model."""

    def names(model):
        optimizer = Muon()(model)
        inside = {id(p) for group in optimizer.parts[0].param_groups for p in group["params"]}
        return {name for name, p in model.named_parameters() if id(p) in inside}

    policy = torch.nn.ModuleDict({"language_model": build_language_model(TINY), "head": torch.nn.Linear(32, 1)})
    assert "head.weight" not in names(policy)
    assert len(names(policy)) == 7 * TINY["num_hidden_layers"]
    assert {name.split(".")[-2] for name in names(build_language_model(MIXTRAL))} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    mamba = {"model_type": "mamba", "vocab_size": 64, "hidden_size": 64, "state_size": 4, "num_hidden_layers": 1}
    assert {name.split(".")[-2] for name in names(build_language_model(mamba))} == {"in_proj", "x_proj", "dt_proj", "out_proj"}


@pytest.mark.parametrize(
    "architecture",
    [
        MIXTRAL | {"router_jitter_noise": 0.1},
        {"model_type": "phimoe", **EXPERTS, "num_local_experts": 4, "router_jitter_noise": 0.5, "input_jitter_noise": 0.5},
    ],
)
def test_a_policy_that_learns_is_the_one_that_sampled_also_with_noisy_routers(architecture):
    torch.manual_seed(0)
    model, ids = build_language_model(architecture), torch.randint(0, 500, (1, 9))
    assert not torch.equal(model.train()(ids).logits, model(ids).logits)
    disable_dropout(model)
    assert torch.equal(model.train()(ids).logits, model(ids).logits)


def test_a_text_model_with_its_config_inside_another_is_trained(tmp_path):
    module = PretrainModule(GEMMA3, evaluation=SHORT)
    trainer(tmp_path, limit_val_batches=1, val_check_interval=2).fit(module, data())
    assert module.trainer.global_step == 2


def test_log_probabilities_are_float32_whatever_torch_makes_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        assert Completions.empty(1, 2, 0, torch.device("cpu")).logp_NT.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_digest_of_a_parameter_without_dimensions():
    assert weights_digest(torch.nn.ParameterDict({"scale": torch.tensor(1.0)})) != weights_digest(
        torch.nn.ParameterDict({"scale": torch.tensor(2.0)})
    )


def test_a_k_that_is_not_estimated_is_named(tmp_path):
    module = PretrainModule(TINY, evaluation=SHORT)
    with pytest.warns(UserWarning, match=r"pass_at_k.ks: pass@3 is not estimated from these samples; there are pass@1, pass@2"):
        trainer(tmp_path, limit_val_batches=1, callbacks=[VerifiedPassAtK(ks=(1, 3))]).validate(module, data(), verbose=False)


def test_a_validation_in_training_leaves_the_card_of_another_run(tmp_path):
    other = tmp_path / "huggingface"
    other.mkdir()
    (other / "interplay.json").write_text("{}")
    own = trainer(tmp_path / "below", limit_val_batches=1, val_check_interval=1, max_steps=1, callbacks=[HuggingFaceExport()])
    own.fit(PretrainModule(TINY, evaluation=SHORT), data())
    assert not (other / "README.md").exists()


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("nested", [False, True])
def test_an_exported_tokenizer_adds_nothing_that_training_did_not_add(tmp_path, kind, nested):
    """A stranger's tokenizer puts BOS before and EOS behind each text when it is called, as Llama's does."""
    tokenizer = load_tokenizer("garden")
    template = TemplateProcessing(
        single="<bos> $A <eos>",
        special_tokens=[("<bos>", tokenizer.bos_token_id or 0), ("<eos>", tokenizer.eos_token_id or 1)],
    )
    tokenizer.backend_tokenizer.post_processor = Sequence([ByteLevel(trim_offsets=False), template]) if nested else template
    prompt = "The number of roses equals 3."
    (ids,) = (example for example in [tokenizer(prompt, add_special_tokens=False).input_ids])
    assert tokenizer(prompt).input_ids != ids
    sizes = {"vocab_size": 576, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    own = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 576} if kind == "gpt2" else sizes | {"intermediate_size": 64}
    model = build_language_model({"model_type": kind, **own})
    write_folder(tmp_path, model.config, model.state_dict(), tokenizer, [3], {}, {})
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read(prompt).input_ids == ids
    assert read([prompt, prompt], padding=True).input_ids == [ids, ids]
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.vocab_size == 576


def test_a_call_of_the_tokenizer_that_cuts_or_pads_changes_no_training_data():
    prompts = PromptDataModule([Component("2-4", ["garden"])], "garden", graph=PLAIN)
    examples = [prompts.synthesis.example("train", i) for i in range(3)]
    before = encode_prompts(examples, [0, 1, 2], prompts.tokenizer).prompt_ids
    for settings in ({"truncation": True, "max_length": 16}, {"padding": "max_length", "max_length": 300}):
        prompts.tokenizer("x", **settings)
        assert encode_prompts(examples, [0, 1, 2], prompts.tokenizer).prompt_ids == before
