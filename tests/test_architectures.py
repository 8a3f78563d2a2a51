"""Every architecture trains and samples as it computes each text by itself, or is refused: the table in docs/models.md."""

import re
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from test_pretrain import MIXTURE, Spy, trainer
from torch.nn.functional import cross_entropy

from datamodules import PretrainDataModule
from datamodules.rows.documents import IGNORE
from lightning_modules import PretrainModule
from lightning_modules.models.language_model import build_language_model, disable_dropout
from lightning_modules.optimizers import AdamW
from lightning_modules.rollout import SamplingParams, chosen_engine, sample
from tests_support import PLAIN

PAGE = Path(__file__).parents[1] / "docs/models.md"


class WithoutDropout(PretrainModule):
    """Its training loss has no noise."""

    def configure_model(self):
        super().configure_model()
        disable_dropout(self.language_model)


def told(name):
    """What the page says of an architecture: how packed rows are computed, and how it is sampled."""
    (row,) = re.findall(rf"^\| {name} \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return row


def loss_text_by_text(model, batch):
    """Oracle: the mean loss of each document, or of each row as one text, by the model's own attention, without a mask."""
    nll = []
    for row in range(len(batch.tokens_BT)):
        for number in range(1, int(batch.document_BT[row].max()) + 1):
            inside = batch.document_BT[row] == number
            logits = model(input_ids=batch.tokens_BT[row, inside][None], use_cache=False).logits[0]
            nll.append(cross_entropy(logits, batch.labels_BT[row, inside], ignore_index=IGNORE, reduction="none"))
    nll = torch.cat(nll)
    return (nll.sum() / (nll > 0).sum()).item()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_of_packed_rows_is_that_of_each_text_by_itself(name, tmp_path):
    wanted, _ = told(name)
    packed = wanted != "`document_mask: false`"
    data = PretrainDataModule(MIXTURE, "garden", row_length=128, graph=PLAIN, batch_rows=3)

    def fit(spy, *, document_mask):
        torch.manual_seed(0)
        module = WithoutDropout(ARCHITECTURES[name], optimizer=AdamW(lr=0.0), document_mask=document_mask)
        trainer(tmp_path, max_steps=1, callbacks=[spy]).fit(module, data)
        return module

    if not packed:
        with pytest.raises(ValueError, match=r"cannot keep packed documents apart.*document_mask: false"):
            fit(Spy(), document_mask=True)
    spy = Spy()
    module = fit(spy, document_mask=packed)
    assert not packed or module.backend.name == wanted
    batch = spy.batch if packed else spy.batch.as_one_document()
    with torch.no_grad():
        expected = loss_text_by_text(module.language_model.eval(), batch)
    assert spy.logged["train/loss"].item() == pytest.approx(expected, abs=5e-6)  # a leak between documents shows in 3e-5


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:the native engine cannot sample")
def test_samples_have_the_probabilities_of_the_whole_text_and_greedy_ones_are_those_of_generate(name):
    _, wanted = told(name)
    torch.manual_seed(0)
    model = build_language_model(ARCHITECTURES[name]).eval()
    prompts, params = [[11, 12, 13, 14, 15, 16], [21, 22]], {"max_new_tokens": 9}
    if wanted == "refused":
        with pytest.raises(ValueError, match="cannot sample from"):
            chosen_engine(model, "native", 15)
        return
    assert chosen_engine(model, "native", 15) == wanted
    done = sample(model, prompts, 2, SamplingParams(**params), stop_ids=[], pad_id=1)
    greedy = sample(model, prompts, 1, SamplingParams(**params, temperature=0.0), stop_ids=[], pad_id=1)
    for n, row in enumerate(done.rows()):
        text, start = torch.tensor([[*prompts[n // 2], *row]]), len(prompts[n // 2]) - 1
        with torch.no_grad():
            expected = model(input_ids=text, use_cache=False).logits[0, start:-1].log_softmax(-1)
        assert torch.allclose(done.logp_NT[n], expected.gather(1, torch.tensor(row)[:, None]).squeeze(1), atol=1e-4)
    for prompt, row in zip(prompts, greedy.rows(), strict=True):
        tokens = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=9,
            eos_token_id=None,
        )
        assert tokens[0, len(prompt) :].tolist() == row
