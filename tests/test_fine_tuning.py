"""Fine-tuning of larger models: recomputed activations, adapters, frozen weights in 16 bit."""

import pytest
import torch
from architectures import ARCHITECTURES
from lightning.pytorch.callbacks import Callback
from policy_runs import LengthReward
from test_pretrain import MIXTURE, Spy, trainer
from transformers import AutoModelForCausalLM

from datamodules import MidtrainDataModule, PretrainDataModule, PromptDataModule
from datamodules.problems.mixture import Component
from lightning_modules import GRPOModule, MidtrainModule, PPOModule, PretrainModule
from lightning_modules.models.group_forward import grouped_logp
from lightning_modules.models.language_model import build_language_model, disable_dropout, load_language_model
from lightning_modules.models.lora import LoRA, add_adapters, merged, without_adapters
from lightning_modules.models.passes import Rows
from lightning_modules.optimizers import AdamW
from lightning_modules.policy.trust_region import KLPenalty
from lightning_modules.rollout import SamplingParams
from lightning_modules.rollout.replica import Replica
from tests_support import PLAIN, TINY, grouped

REAL = ("llama", "qwen3", "gpt2", "gemma", "smollm3")  # kinds of models that people fine-tune


def data(**settings):
    return MidtrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2, **settings)


def prompts():
    return PromptDataModule([Component("2", ["garden"])], "garden", graph=PLAIN, prompts_per_rollout=4)


def folder_of(name, path):
    torch.manual_seed(0)
    model = build_language_model(ARCHITECTURES[name])
    disable_dropout(model)
    model.save_pretrained(path)
    return str(path)


class AsksTransformers(PretrainModule):
    """A user's own call, which recomputes when the attention of the forward pass is gone."""

    def configure_model(self):
        super().configure_model()
        self.language_model.gradient_checkpointing_enable({"use_reentrant": True})


def gradients(folder, name, attention, module_type=PretrainModule, **settings):
    torch.manual_seed(0)

    class Sure(module_type):
        def configure_model(self):
            super().configure_model()
            disable_dropout(self.language_model)

    spy = Spy()
    module = Sure(ARCHITECTURES[name], attention=attention, optimizer=AdamW(lr=0.0), **settings)
    trainer(folder, max_steps=1, callbacks=[spy]).fit(module, PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN))
    return torch.cat([g.flatten() for g in spy.gradients])


@pytest.mark.parametrize("attention", ["documents", "sdpa", "mask"])
@pytest.mark.parametrize("name", REAL)
def test_recomputed_activations_give_the_same_gradients(name, attention, tmp_path):
    expected = gradients(tmp_path, name, attention)
    found = gradients(tmp_path, name, attention, gradient_checkpointing=True)
    assert torch.allclose(found, expected, atol=1e-6)


def test_recomputation_that_someone_else_asked_for_is_made_right(tmp_path):
    expected = gradients(tmp_path, "qwen2", "documents")
    assert torch.allclose(gradients(tmp_path, "qwen2", "documents", AsksTransformers), expected, atol=1e-6)


class CountsCalls(Callback):
    """Counts how often the first layer starts."""

    calls = 0

    def count(self, *args):
        self.calls += 1

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        pl_module.language_model.model.layers[0].mlp.register_forward_pre_hook(self.count)


def test_layers_are_recomputed(tmp_path):
    counts = [CountsCalls(), CountsCalls()]
    for recomputed, count in enumerate(counts):
        module = PretrainModule(TINY, optimizer=AdamW(lr=0.0), gradient_checkpointing=bool(recomputed))
        trainer(tmp_path, max_steps=1, callbacks=[count]).fit(module, data())
    assert [count.calls for count in counts] == [1, 2]


def test_grouped_rows_are_recomputed_in_their_groups(start):
    tokens = torch.randint(10, 500, (4, 20), generator=torch.Generator().manual_seed(0))
    tokens[1], tokens[3, :8] = tokens[0], tokens[2, :8]
    mask = torch.zeros(4, 19, dtype=torch.bool)
    mask[:, 7:] = True
    found = []
    for recomputed in (False, True):
        module = GRPOModule(start, LengthReward(), gradient_checkpointing=recomputed)
        module.configure_model()
        module.language_model.train()
        grouped_logp(module.language_model, tokens, mask).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in module.language_model.parameters()]))
    assert torch.allclose(*found, atol=1e-5)


@pytest.mark.parametrize("name", REAL)
def test_adapters_learn_in_mid_training_and_are_merged_at_export(name, tmp_path):
    start = folder_of(name, tmp_path / "start")
    module = MidtrainModule(start, lora=LoRA(rank=4), optimizer=AdamW(lr=1e-2))
    done = trainer(tmp_path, max_steps=4)
    done.fit(module, data())
    before, model = load_language_model(start), module.language_model.eval()
    learned = [key for key, p in model.named_parameters() if p.requires_grad]
    assert learned and all(".lora_" in key for key in learned)
    tokens = torch.arange(40)[None]
    with torch.no_grad():
        with without_adapters(model):
            assert torch.equal(model(tokens).logits, before.eval()(tokens).logits)
        expected = model(tokens).logits
        assert (expected - before(tokens).logits).abs().max() > 1e-2
    done.save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "huggingface").mkdir()
    module.write_folder(tmp_path / "huggingface", module.whole_weights(), "")
    for opened in (
        load_language_model(str(tmp_path / "last.ckpt")),
        load_language_model(str(tmp_path / "huggingface")),
        AutoModelForCausalLM.from_pretrained(tmp_path / "huggingface"),
        Replica(model, None).model,
    ):
        with torch.no_grad():
            assert torch.allclose(opened.eval()(tokens).logits, expected, atol=1e-5)


def test_adapters_resume_to_the_same_numbers(start, tmp_path):
    def run(steps, **settings):
        torch.manual_seed(0)
        module = MidtrainModule(start, lora=LoRA(rank=4), optimizer=AdamW(lr=1e-2), schedule=lambda step, steps: 1.0)
        done = trainer(tmp_path, max_steps=steps)
        done.fit(module, data(), **settings)
        return done, module

    _, whole = run(4)
    half, _ = run(2)
    half.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = run(4, ckpt_path=tmp_path / "half.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(whole.whole_weights().values(), resumed.whole_weights().values(), strict=True))


@pytest.mark.parametrize("module_type", [GRPOModule, PPOModule])
def test_a_policy_with_adapters_is_its_own_reference(module_type, start, tmp_path):
    """Oracle: the KL term against the weights of `init_from`, loaded by themselves."""
    module = module_type(
        start,
        LengthReward(),
        lora=LoRA(rank=4),
        sampling=SamplingParams(max_new_tokens=12),
        optimizer=AdamW(lr=1e-2),
        **grouped(beta=0.1),
    )
    done = trainer(tmp_path, max_steps=3)
    done.fit(module, prompts())
    assert done.callback_metrics["train/rollout_kl_nats"] > 1e-6
    assert module.reference.model is None  # never loaded
    tokens = torch.randint(10, 500, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 19, dtype=torch.bool)
    with torch.no_grad():
        expected = load_language_model(start)(tokens[:, :-1]).logits.log_softmax(-1).gather(-1, tokens[:, 1:, None]).squeeze(-1)
        assert torch.allclose(module.reference_logp(Rows.of(tokens, mask)), expected, atol=1e-5)
        assert not torch.allclose(module.token_logp(Rows.of(tokens, mask)), expected, atol=1e-3)


def test_frozen_weights_can_be_kept_in_16_bit(start):
    model = load_language_model(start)
    whole = sum(p.numel() * p.element_size() for p in model.parameters())
    add_adapters(model, LoRA(rank=2, weights="bfloat16"))
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert sum(p.numel() * p.element_size() for p in frozen) == whole / 2
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    plain = merged(model, dict(model.named_parameters(remove_duplicate=False)))
    assert plain.keys() == dict(load_language_model(start).named_parameters(remove_duplicate=False)).keys()


def test_a_policy_learns_on_frozen_weights_in_16_bit(start, tmp_path):
    module = GRPOModule(
        start, LengthReward(), lora=LoRA(rank=4, weights="bfloat16"), sampling=SamplingParams(max_new_tokens=12),
        optimizer=AdamW(lr=1e-2), **grouped(beta=0.1),
    )  # fmt: skip
    done = trainer(tmp_path, max_steps=2)
    done.fit(module, prompts())
    assert done.callback_metrics["train/sampler_gap_nats"] < 0.05
    assert all(p.isfinite().all() for p in module.language_model.parameters())


def test_a_compiled_loss_recomputes_nothing():
    with pytest.raises(ValueError, match="set one of `compile` and `gradient_checkpointing`"):
        PretrainModule(TINY, compile=True, gradient_checkpointing=True)


def test_adapters_need_trained_weights_and_a_fixed_reference(start):
    with pytest.raises(ValueError, match="lora adapts trained weights"):
        PretrainModule(TINY, lora=LoRA())
    with pytest.raises(ValueError, match="a policy with adapters has a fixed reference"):
        GRPOModule(start, LengthReward(), lora=LoRA(), kl=KLPenalty(weight=0.1, reference_decay=0.9))
    with pytest.raises(ValueError, match="rank=0 must be at least 1"):
        LoRA(rank=0)
