"""Documents side by side, without mask and padding: the same loss and gradients as with a mask, and as each by itself."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from datamodules.rows.documents import IGNORE
from lightning_modules.models.attending import attending
from lightning_modules.models.attention import SDPA, Documents, choose_backend
from lightning_modules.models.document_forward import attend_within_documents, document_places
from lightning_modules.models.language_model import build_language_model, disable_dropout
from tests_support import TINY

DOCUMENT = torch.tensor([[1] * 7 + [2] * 5 + [3] * 7 + [0] * 3, [1] * 1 + [2] * 16 + [3] * 5, [1] * 22])
POSITION = torch.tensor([[*range(7), *range(5), *range(7), *range(3)], [0, *range(16), *range(5)], [*range(22)]])
SMALL = {"vocab_size": 576, "num_hidden_layers": 2}
MODELS = {
    "qwen2": TINY,
    "llama": TINY | {"model_type": "llama", "tie_word_embeddings": False},
    "qwen3": TINY | {"model_type": "qwen3", "head_dim": 16},
    "gpt2": {"model_type": "gpt2", "vocab_size": 576, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "nemotron": TINY | {"model_type": "nemotron", "head_dim": 8},  # hands no keyword arguments on to its attention
    "gpt_neox": SMALL | {"model_type": "gpt_neox", "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4},
}


def batch(seed=0):
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(10, 500, DOCUMENT.shape, generator=random)
    labels = torch.randint(10, 500, DOCUMENT.shape, generator=random)
    labels[(torch.rand(DOCUMENT.shape, generator=random) < 0.4) | (DOCUMENT == 0)] = IGNORE
    return tokens, labels


def model_of(name):
    torch.manual_seed(0)
    model = build_language_model(MODELS[name])
    disable_dropout(model)
    return model


def loss_and_gradients(backend, name, tokens, labels):
    model = model_of(name)
    with backend.attending(model):
        logits, wanted = backend.logits(model, tokens, labels, POSITION, **backend.arguments(DOCUMENT, None))
    nll = cross_entropy(logits, wanted, ignore_index=IGNORE, reduction="none")
    nll.sum().backward()
    return nll[wanted != IGNORE].detach(), {key: p.grad for key, p in model.named_parameters()}


@pytest.mark.parametrize("name", MODELS)
def test_loss_of_every_label_and_gradients_are_those_of_each_document_by_itself(name):
    """Oracle: one document after the other, by the model's own attention."""
    tokens, labels = batch()
    nll, gradients = loss_and_gradients(Documents(), name, tokens, labels)
    model, alone = model_of(name), []
    for row in range(len(DOCUMENT)):
        for number in range(1, int(DOCUMENT[row].max()) + 1):
            inside = DOCUMENT[row] == number
            logits = model(input_ids=tokens[row, inside][None], use_cache=False).logits[0]
            alone.append(cross_entropy(logits, labels[row, inside], ignore_index=IGNORE, reduction="none"))
    expected = torch.cat(alone)
    expected.sum().backward()
    assert torch.allclose(nll, expected[labels[DOCUMENT > 0] != IGNORE], atol=1e-5)
    for key, parameter in model.named_parameters():
        assert torch.allclose(gradients[key], parameter.grad, atol=1e-4), key


def test_it_agrees_with_the_mask():
    one, other = (loss_and_gradients(backend, "qwen2", *batch(1)) for backend in (Documents(), SDPA()))
    assert torch.allclose(one[0], other[0], atol=1e-5)
    assert all(torch.allclose(one[1][key], other[1][key], atol=1e-4) for key in one[1])


def test_a_batch_without_labels_has_a_loss_of_0_and_gradients_for_all_weights():
    """Processes that share gradients must all have them."""
    tokens, labels = batch()
    nll, gradients = loss_and_gradients(Documents(), "qwen2", tokens, labels.fill_(IGNORE))
    assert not len(nll)
    assert all(gradient is not None and not gradient.any() for gradient in gradients.values())


def test_a_batch_of_padding_alone_passes():
    """Processes that have no documents left take such ones to keep in step."""
    tokens, labels = batch()
    nothing, model = torch.zeros_like(DOCUMENT), model_of("qwen2")
    with attending(model, Documents.name):
        logits, wanted = Documents().logits(model, tokens, labels.fill_(IGNORE), nothing, document_BT=nothing)
    assert logits.isfinite().all() and wanted.tolist() == [IGNORE]


def test_the_layout_holds_every_token_of_a_document_once_in_order():
    place_F, sizes = document_places(DOCUMENT)
    assert sizes == ((1, 1), (2, 5), (2, 7), (1, 16), (1, 22))
    assert sorted(place_F.tolist()) == (DOCUMENT.flatten() > 0).nonzero().flatten().tolist()
    start = 0
    for count, length in sizes:
        for _ in range(count):
            assert POSITION.flatten()[place_F[start : start + length]].tolist() == [*range(length)]
            start += length


def test_attention_is_scaled_as_the_model_asks():
    """Oracle: a softmax over the earlier tokens of each document, written out."""
    query, key, value = torch.randn(3, 1, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    with attending(model_of("qwen2"), Documents.name, ((1, 3), (1, 5))):
        found = attend_within_documents(None, query, key, value, None, scaling=0.9)[0]
    for head in range(2):
        for first, length in ((0, 3), (3, 5)):
            for t in range(first, first + length):
                weight = (0.9 * key[0, head, first : t + 1] @ query[0, head, t]).softmax(0)
                assert torch.allclose(found[0, t, head], weight @ value[0, head, first : t + 1], atol=1e-6)


def test_auto_takes_it_on_a_cpu_where_it_can():
    def chosen(model, **settings):
        return choose_backend("auto", torch.device("cpu"), half=False, model=model, **settings).name

    sliding = build_language_model(TINY | {"model_type": "mistral", "sliding_window": 4})
    mixed = build_language_model(TINY | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1})
    assert chosen(model_of("qwen2")) == "documents"
    assert chosen(model_of("qwen2"), compiled=True) == "sdpa"
    assert chosen(sliding) == chosen(mixed) == "documents"
