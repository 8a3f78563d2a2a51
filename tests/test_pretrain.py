"""Pre- and mid-training: what the loss is, what validation measures, where the weights come from."""

import math
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from datamodules import MidtrainDataModule, PretrainDataModule
from datamodules.pretraining import with_replay
from datamodules.problems.mixture import Component
from datamodules.reasoning import HeldOut
from datamodules.rows.documents import IGNORE
from datamodules.rows.gold_documents import LABEL_KINDS, GoldDocuments
from datamodules.rows.token_kinds import response_token_kinds
from lightning_modules import MidtrainModule, PretrainModule
from lightning_modules.evaluation import Evaluation
from lightning_modules.metrics import GoldLoss, gold_loss_table
from lightning_modules.models import label_scores
from lightning_modules.models.attention import BACKENDS
from lightning_modules.models.language_model import build_language_model
from lightning_modules.optimizers import AdamW
from lightning_modules.rollout import SamplingParams
from tests_support import PLAIN, TINY, by_document

ROOT = Path(__file__).parent.parent
MIXTURE = [Component("2-4", ["garden"])]
HELD_OUT = HeldOut({"ID": "2-3", "edge": "5"}, ["garden"], validation_problems=6)


def trainer(folder, **settings):
    return Trainer(
        **{
            "max_steps": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
            "enable_model_summary": False, "default_root_dir": folder, "num_sanity_val_steps": 0, "limit_val_batches": 0,
            **settings,
        }
    )  # fmt: skip


class Spy(Callback):
    """Keep the first batch, what was logged and what was handed out with it, and the gradients."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batch = batch

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients = [p.grad.clone() for p in pl_module.language_model.parameters()]

    def on_train_batch_end(self, trainer, pl_module, outputs, *args):
        self.outputs, self.logged = outputs, trainer.callback_metrics


def one_step(folder, *, loss_on="all", accumulate=1, **settings):
    torch.manual_seed(0)
    module = PretrainModule(TINY, optimizer=AdamW(lr=0.0), **settings)
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=4 // accumulate, loss_on=loss_on)
    spy = Spy()
    trainer(folder, max_steps=1, callbacks=[spy], accumulate_grad_batches=accumulate).fit(module, data)
    return module, spy


def documents(batch):
    """(ids, labels) of each packed document, one by one."""
    for row in range(len(batch.tokens_BT)):
        for number in range(1, int(batch.document_BT[row].max()) + 1):
            inside = batch.document_BT[row] == number
            yield batch.tokens_BT[row, inside], batch.labels_BT[row, inside]


def oracle(model, batch):
    """Sums of -log p and of (log Z)^2 over labels, and their number: each document by itself, label by label."""
    nll = square = count = 0.0
    for ids, labels in documents(batch):
        logits = model(input_ids=ids[None], use_cache=False).logits[0]
        for t in range(len(ids)):
            if labels[t] != IGNORE:
                log_z = logits[t].exp().sum().log()
                nll, square, count = nll + log_z - logits[t, labels[t]], square + log_z**2, count + 1
    return nll, square, count


@pytest.mark.parametrize(("loss_on", "attention"), [("all", "auto"), ("solution", "auto"), ("solution", "sdpa")])
def test_the_loss_is_the_mean_over_labels_with_the_penalty_of_their_log_z(tmp_path, loss_on, attention):
    module, spy = one_step(tmp_path, loss_on=loss_on, z_loss=0.1, attention=attention)
    nll, square, count = oracle(module.language_model, spy.batch)
    assert spy.logged["train/loss"].item() == pytest.approx((nll / count).item(), rel=1e-5)
    assert spy.logged["train/z_loss"].item() == pytest.approx((square / count).item(), rel=1e-5)
    assert spy.outputs["loss"].item() == pytest.approx(((nll + 0.1 * square) / count).item(), rel=1e-5)
    module.zero_grad()
    ((nll + 0.1 * square) / count).backward()
    for gradient, parameter in zip(spy.gradients, module.language_model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, atol=1e-5)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    _, whole = one_step(tmp_path, loss_on="solution")
    _, parts = one_step(tmp_path, loss_on="solution", accumulate=4)
    assert parts.logged["train/loss"].item() == pytest.approx(whole.logged["train/loss"].item(), rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.gradients, parts.gradients, strict=True))


@pytest.mark.parametrize("attention", ["documents", "sdpa", "varlen"])
def test_gradients_in_passes_are_those_of_the_whole_batch(tmp_path, attention, monkeypatch):
    """Four rows of 128 tokens, three of them at once; another kernel stands for `varlen`'s, which gets the boundaries."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", by_document, raising=False)
    if attention == "varlen":
        monkeypatch.setattr("lightning_modules.pretrain.choose_backend", lambda *_, **__: BACKENDS["varlen"]())
        attention = "auto"
    settings = {"loss_on": "solution", "attention": attention, "z_loss": 0.1}
    _, whole = one_step(tmp_path, **settings)
    _, parts = one_step(tmp_path, tokens_per_pass=3 * 128 + 100, **settings)
    assert parts.logged["train/loss"].item() == pytest.approx(whole.logged["train/loss"].item(), rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.gradients, parts.gradients, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(whole.gradients, parts.gradients, strict=True))
    monkeypatch.setattr(label_scores, "LOGITS_AT_ONCE", 576 * 50)
    _, fewer = one_step(tmp_path, **settings)
    assert fewer.logged["train/z_loss"].item() == pytest.approx(whole.logged["train/z_loss"].item(), rel=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole.gradients, fewer.gradients, strict=True))


def test_validation_in_passes_measures_the_same(tmp_path):
    found = []
    for tokens in (None, 128):
        torch.manual_seed(0)
        evaluation = Evaluation(samples=1, sampling=SamplingParams(max_new_tokens=2), likelihood=False)
        module = PretrainModule(TINY, evaluation=evaluation, tokens_per_pass=tokens)
        data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=4, held_out=HELD_OUT)
        (one,) = trainer(tmp_path, limit_val_batches=1.0).validate(module, data, verbose=False)[:1]
        found.append({key: value for key, value in one.items() if "loss" in key or "perplexity" in key})
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert {"val/loss", "val/loss/ID"} <= found[0].keys()


def test_without_the_document_mask_rows_are_one_text(tmp_path):
    """The paper's packing. Oracle: the model's plain causal forward pass on whole rows, up to their padding."""
    module, spy = one_step(tmp_path, document_mask=False)
    nll, count = 0.0, 0
    for tokens, labels in zip(spy.batch.tokens_BT, spy.batch.labels_BT, strict=True):
        logits = module.language_model(input_ids=tokens[None], use_cache=False).logits[0]
        nll += torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum").item()
        count += int((labels != IGNORE).sum())
    assert spy.logged["train/loss"].item() == pytest.approx(nll / count, rel=1e-5)
    masked = one_step(tmp_path)[1].logged["train/loss"].item()
    assert abs(spy.logged["train/loss"].item() - masked) > 1e-4


def test_flops_of_a_step_are_those_of_its_documents(tmp_path):
    """Oracle: document by document, token by token, 6 FLOPs a weight and 12 d an attended token and layer."""
    module, spy = one_step(tmp_path)
    weights = sum(p.numel() for p in module.language_model.parameters() if p.ndim == 2)
    expected = sum(
        6 * weights + 12 * TINY["hidden_size"] * TINY["num_hidden_layers"] * (t + 1)
        for ids, _ in documents(spy.batch) for t in range(len(ids))
    )  # fmt: skip
    assert spy.outputs["flops"].item() == expected


def test_validation_measures_loss_by_band_and_context_and_perplexity_by_kind(tmp_path):
    """Oracle: each gold document by itself, token by token."""
    module, data = (
        PretrainModule(TINY),
        PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2, held_out=HELD_OUT),
    )
    run = trainer(tmp_path, limit_val_batches=1.0)
    module.evaluate = lambda batch: {}  # sampling is not what is tested here
    metrics = run.validate(module, data, verbose=False)
    logged = {k: v for m in metrics for k, v in m.items()}
    sums = {}
    for example in data.held_out_examples("validation", 6):
        ids = data.tokenizer(example.prompt + example.response, add_special_tokens=False)["input_ids"] + [3]
        prompt = len(data.tokenizer(example.prompt, add_special_tokens=False)["input_ids"])
        kinds = ["prompt"] * prompt + response_token_kinds(example, data.tokenizer) + ["other"]
        logp = module.language_model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        band = "ID" if example.cell.op in (2, 3) else "edge"
        for t in range(1, len(ids)):
            for key in (f"val/loss/{band}", f"val/loss/{band}/garden", f"val/perplexity/{kinds[t]}/{band}"):
                sums.setdefault(key, []).append(-logp[t - 1, ids[t]].item())
    for key, losses in sums.items():
        mean = sum(losses) / len(losses)
        if "perplexity" not in key:
            assert logged[key] == pytest.approx(mean, rel=1e-4), key
        elif key.split("/")[2] in ("prompt", "other"):
            assert key not in logged
        else:
            assert logged[key] == pytest.approx(math.exp(mean), rel=1e-4), key
    assert "val/perplexity/letter/edge" in sums


def test_gold_documents_are_shared_out_whole(synthesis, tokenizer):
    examples = [synthesis.example("validation", i) for i in range(9)]

    def batches(rank, world):
        settings = {"row_length": 128, "batch_rows": 2, "solution_only": True}
        return list(GoldDocuments(examples, ["garden"], tokenizer, rank=rank, world=world, **settings))

    alone, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    assert len(first) == len(second)
    labels = lambda parts: sum(int((b.labels_BT != IGNORE).sum()) for b in parts)  # noqa: E731
    assert labels(alone) == labels(first) + labels(second) > 0
    for batch in alone:  # no prompt token carries a loss
        assert not (batch.kind_BT[batch.labels_BT != IGNORE] == LABEL_KINDS.index("prompt")).any()


def test_gold_loss_of_two_halves_adds_up():
    whole, left, right = GoldLoss(2, 3), GoldLoss(2, 3), GoldLoss(2, 3)
    draw = {"generator": torch.Generator().manual_seed(0)}
    nll, op = torch.rand(400, **draw), torch.randint(2, 6, (400,), **draw)
    context, kind = torch.randint(0, 2, (400,), **draw), torch.randint(0, 3, (400,), **draw)
    whole.update(nll, op, context, kind)
    left.update(nll[:8], op[:8], context[:8], kind[:8])
    right.update(nll[8:], op[8:], context[8:], kind[8:])
    assert torch.allclose(whole.compute(), left.compute() + right.compute())
    table = gold_loss_table(whole.compute(), {"ID": [2, 3], "none": [40]}, ["a", "b"], ["name", "other", "prompt"])
    inside = (op <= 3) & (context == 1)
    assert table["loss/ID/b"] == pytest.approx(nll[inside].mean().item(), rel=1e-6)
    assert table["perplexity/name/ID"] == pytest.approx(nll[(op <= 3) & (kind == 0)].mean().exp().item(), rel=1e-6)
    assert not any("none" in name or "other" in name for name in table)


def test_midtraining_starts_from_a_folder_or_a_checkpoint_with_a_fresh_optimiser(tmp_path):
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=2)
    module = PretrainModule(TINY)
    run = trainer(tmp_path)
    run.fit(module, data)
    run.save_checkpoint(tmp_path / "x.ckpt")
    module.language_model.save_pretrained(tmp_path / "folder")
    for source in ("x.ckpt", "folder"):
        spy = Spy()
        mid = MidtrainModule(str(tmp_path / source), optimizer=AdamW(lr=0.0))
        again = trainer(tmp_path, max_steps=1, callbacks=[spy])
        again.fit(mid, data)
        pairs = zip(module.language_model.parameters(), mid.language_model.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
        assert all(state["step"] == 1 for state in again.optimizers[0].state.values())
        assert int(mid.tokens_seen) == int(spy.outputs["tokens"])


def test_a_model_starts_from_fresh_weights_or_from_some_but_not_both():
    with pytest.raises(ValueError, match="either"):
        PretrainModule(TINY, init_from="somewhere")


def test_replay_takes_its_share_of_the_mixture():
    old, new = [Component("2", ["garden"], weight=0.5), Component("3", ["garden"], weight=0.5)], [Component("5-6", ["garden"])]
    blend = with_replay(new, old, 0.2)
    assert [c.weight for c in blend] == pytest.approx([0.8, 0.1, 0.1])
    data = MidtrainDataModule(new, "garden", replay=old, replay_share=0.2, row_length=128, graph=PLAIN)
    ops = [data.synthesis.example("train", i).cell.op for i in range(400)]
    assert sum(op <= 3 for op in ops) / 400 == pytest.approx(0.2, abs=0.06)  # three standard errors
    for replay, share in (([], 0.2), (old, 0.0), (old, 1.0)):
        with pytest.raises(ValueError, match="replay_share"):
            with_replay(new, replay, share)


@pytest.mark.long
def test_a_compiled_loss_is_the_loss(tmp_path):
    _, plain = one_step(tmp_path, z_loss=0.1)
    _, compiled = one_step(tmp_path, z_loss=0.1, compile=True)
    assert compiled.logged["train/loss"].item() == pytest.approx(plain.logged["train/loss"].item(), rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(plain.gradients, compiled.gradients, strict=True))


@pytest.mark.parametrize(("name", "millions"), [("pretrain_100m", 103.2), ("pretrain_200m", 204.7), ("pretrain_400m", 397.7)])
def test_models_have_the_published_number_of_parameters(name, millions):
    import yaml

    with (ROOT / f"configs/model/{name}.yaml").open() as file, torch.device("meta"):
        model = build_language_model(yaml.safe_load(file)["init_args"]["architecture"])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
