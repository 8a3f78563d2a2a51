"""Packed documents do not see each other, with every attention backend that the machine has."""

import pytest
import torch
from architectures import ARCHITECTURES
from torch.nn.functional import scaled_dot_product_attention

from lightning_modules.models.attention import (
    BACKENDS,
    EDGES_MULTIPLE,
    Mask,
    choose_backend,
    document_edges,
    missing,
    unsuitable,
)
from lightning_modules.models.language_model import build_language_model
from tests_support import TINY

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
DOCUMENT = torch.tensor([[1] * 50 + [2] * 61 + [0] * 17, [1] * 30 + [2] * 40 + [3] * 58])
POSITION = torch.tensor([[*range(50), *range(61), *range(17)], [*range(30), *range(40), *range(58)]])


def random_tokens(seed):
    return torch.randint(10, 500, DOCUMENT.shape, generator=torch.Generator().manual_seed(seed))


def logits(name, tokens, *, dtype=torch.float32, device=DEVICE):
    torch.manual_seed(0)
    model = build_language_model(TINY | {"hidden_size": 64}).to(device, dtype).eval().requires_grad_(False)
    backend = BACKENDS[name]()
    edges = document_edges(DOCUMENT).to(device) if backend.needs_edges else None
    with backend.attending(model):
        assert model.config._attn_implementation == ("sdpa" if name == "mask" else name)
        out = model(
            input_ids=tokens.to(device), position_ids=POSITION.to(device), use_cache=False,
            **backend.arguments(DOCUMENT.to(device), edges),
        ).logits  # fmt: skip
    assert model.config._attn_implementation == "sdpa"
    return out.float().cpu()


def assert_isolated(name, tolerance=0.0, **where):
    """Perturb the first document of each row; only its own logits move. Oracle: each document by itself, with sdpa."""
    tokens, other = random_tokens(0), random_tokens(0)
    first = DOCUMENT == 1
    other[first] = random_tokens(1)[first]
    before, after = logits(name, tokens, **where), logits(name, other, **where)
    rest = DOCUMENT > 1
    assert (before[rest] - after[rest]).abs().max() <= tolerance
    assert (before[first] - after[first]).abs().max() > 0.1
    torch.manual_seed(0)
    alone = build_language_model(TINY | {"hidden_size": 64}).eval()
    for row in range(2):
        for number in range(1, int(DOCUMENT[row].max()) + 1):
            inside = DOCUMENT[row] == number
            expected = alone(input_ids=tokens[row, inside][None], use_cache=False).logits[0]
            assert torch.allclose(before[row, inside], expected, atol=max(1e-5, tolerance * 100))


@pytest.mark.parametrize("name", ["sdpa", "mask"])
def test_documents_are_isolated(name):
    assert_isolated(name)


@pytest.mark.long
def test_flex_attention_isolates_documents():
    assert_isolated("flex_attention")  # compiles for about 20 seconds


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["varlen", "flash_attention_2", "flex_attention", "sdpa"])
def test_a_backend_isolates_documents_on_a_gpu(name):
    if reason := missing(name, DEVICE, half=True):
        pytest.skip(f"{name}: {reason}")
    assert_isolated(name, tolerance=2e-3, dtype=torch.bfloat16)


def attend_document_by_document(query, key, value, edges_q, edges_k, max_q, max_k, *, scale, window_size, enable_gqa=False):
    """Oracle with the signature of torch.nn.attention.varlen.varlen_attn: each document by itself."""
    assert edges_q is edges_k and window_size == (-1, 0)
    assert query.ndim == key.ndim == 3 and query.dtype == key.dtype == value.dtype
    out = torch.zeros_like(query)
    for start, end in zip(edges_q[:-1].tolist(), edges_q[1:].tolist(), strict=True):
        assert end - start <= max_q
        parts = (x[start:end].transpose(0, 1)[None] for x in (query, key, value))
        if end > start:
            out[start:end] = scaled_dot_product_attention(*parts, is_causal=True, scale=scale, enable_gqa=enable_gqa)[
                0
            ].transpose(0, 1)
    return out


def attend_without_sharing(
    query, key, value, edges_q, edges_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
):
    """The signature of PyTorch 2.11, whose heads do not share keys."""
    assert query.shape == key.shape == value.shape
    return attend_document_by_document(query, key, value, edges_q, edges_k, max_q, max_k, scale=scale, window_size=window_size)


@pytest.mark.parametrize("kernel", [attend_document_by_document, attend_without_sharing])
def test_varlen_hands_documents_to_its_kernel(monkeypatch, kernel):
    """The kernel runs on a GPU only; in its place stands one that takes the documents one by one."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    assert_isolated("varlen", device=torch.device("cpu"))


def test_a_varlen_kernel_is_used_if_it_takes_what_it_is_given(monkeypatch):
    def of_earlier_versions(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False): ...

    assert not missing("varlen", torch.device("cuda"), half=True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", of_earlier_versions)
    assert "has no varlen_attn" in missing("varlen", torch.device("cuda"), half=True)
    assert choose_backend("auto", torch.device("cuda"), half=True).name in ("flash_attention_2", "flex_attention")


def test_flash_attention_is_given_the_documents(monkeypatch):
    """transformers hands the boundaries to flash_attn_varlen_func, in whose place stands one that takes them one by one."""
    import transformers.modeling_flash_attention_utils as flash

    def varlen(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale=None, causal=False):
        assert causal
        return attend_document_by_document(
            query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
            scale=softmax_scale, window_size=(-1, 0), enable_gqa=True,
        )  # fmt: skip

    class Arguments(tuple):  # from transformers 5.18 on, two functions that choose a kernel's arguments; before, one
        def __call__(self, *, max_seqlen_q, max_seqlen_k, softmax_scale, is_causal, **rest):
            return {
                "max_seqlen_q": max_seqlen_q, "max_seqlen_k": max_seqlen_k, "softmax_scale": softmax_scale, "causal": is_causal,
            }  # fmt: skip

    def imported(implementation, *args, **kwargs):
        return (None, varlen, None, None, None), Arguments((Arguments(), None))

    monkeypatch.setattr(flash, "lazy_import_flash_attention", imported)
    assert_isolated("flash_attention_2", device=torch.device("cpu"))


def test_edges_are_those_of_the_documents():
    edges = document_edges(DOCUMENT)
    assert edges.dtype == torch.int32 and len(edges) % EDGES_MULTIPLE == 0
    assert edges.unique().tolist() == [0, 50, 111, 128, 158, 198, 256]
    assert (edges.diff() >= 0).all()


def test_the_mask_is_causal_within_documents():
    """Oracle: the definition, pair by pair."""
    document = torch.tensor([[1, 1, 2, 2, 2, 0]])
    mask = Mask().arguments(document)["attention_mask"][0, 0] == 0
    for query in range(6):
        for key in range(6):
            assert mask[query, key] == (key <= query and document[0, key] == document[0, query])


def test_auto_takes_what_works_and_a_wrong_choice_is_explained():
    assert choose_backend("auto", torch.device("cpu"), half=True).name == "documents"
    assert choose_backend("auto", torch.device("cuda"), half=False).name == "flex_attention"
    assert choose_backend("auto", torch.device("cuda"), half=True).name in ("flash_attention_2", "varlen")
    for name in ("varlen", "flex_attention", "flash_attention_2"):
        with pytest.raises(ValueError, match=f"{name} cannot be used: it trains on a CUDA device"):
            choose_backend(name, torch.device("cpu"), half=True)
    with pytest.raises(ValueError, match="16 bit"):
        choose_backend("varlen", torch.device("cuda"), half=False)


@pytest.mark.parametrize(("kind", "setting"), [("gpt2", "attn_pdrop"), ("qwen2", "attention_dropout")])
def test_a_backend_that_drops_no_attention_weights_is_refused_to_a_model_that_does(kind, setting):
    for rate, refused in ((0.0, False), (0.1, True)):
        model = build_language_model(ARCHITECTURES[kind] | {setting: rate})
        for name in ("varlen", "flex_attention"):
            found = unsuitable(name, model, compiled=False, packed=False)
            assert ("drops attention weights" in (found or "")) == refused
        assert unsuitable("sdpa", model, compiled=False, packed=False) is None
