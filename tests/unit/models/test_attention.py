"""Attention matrices against the operations that used them: what they mix the values to is what was returned."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gradserve_server.models.attention import attention_call

ROWS, HEADS, QUERIES, KEYS, WIDTH = 3, 4, 5, 6, 7
NOISE = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=NOISE)


ALLOWED = random(QUERIES, KEYS) > -0.5
ALLOWED[:, 0] = True
OPTIONS = {
    "plain": {},
    "scaled": {"scale": 0.7},
    "causal": {"is_causal": True},
    "bias of all rows": {"attn_mask": random(QUERIES, KEYS)},
    "bias of all heads": {"attn_mask": random(1, HEADS, QUERIES, KEYS)},
    "bias of each row": {"attn_mask": random(ROWS, HEADS, QUERIES, KEYS)},
    "mask": {"attn_mask": ALLOWED},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("rows", [slice(0, ROWS), slice(1, 2)], ids=["all rows", "one row"])
def test_scaled_dot_product(options, rows: slice) -> None:
    query, key, value = (
        random(ROWS, HEADS, QUERIES, WIDTH),
        random(ROWS, HEADS, KEYS, WIDTH),
        random(ROWS, HEADS, KEYS, 2),
    )
    output = F.scaled_dot_product_attention(query, key, value, **options)
    weights = attention_call(F.scaled_dot_product_attention, (query, key, value), options, output).weights(rows)
    torch.testing.assert_close(weights @ value[rows], output[rows], rtol=1e-12, atol=1e-12)


def test_heads_that_share_keys() -> None:
    query, key, value = random(ROWS, HEADS, QUERIES, WIDTH), random(ROWS, 2, KEYS, WIDTH), random(ROWS, 2, KEYS, 2)
    output = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    call = attention_call(F.scaled_dot_product_attention, (query, key, value), {"enable_gqa": True}, output)
    weights = call.weights(slice(0, ROWS))
    torch.testing.assert_close(weights @ value.repeat_interleave(2, 1), output, rtol=1e-12, atol=1e-12)


MASKS = {
    "none": {},
    "padding": {"key_padding_mask": torch.tensor([[False] * 5, [False, True] + [False] * 3, [False] * 4 + [True]])},
    "of all rows": {"attn_mask": random(QUERIES, QUERIES)},
    "of each row and head": {"attn_mask": random(ROWS * HEADS, QUERIES, QUERIES)},
}


@pytest.mark.parametrize("masks", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("rows", [slice(0, ROWS), slice(1, 3)], ids=["all rows", "two rows"])
@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
def test_multi_head(masks, rows: slice) -> None:
    torch.manual_seed(0)
    module = nn.MultiheadAttention(8, HEADS, batch_first=True).double().eval().requires_grad_(False)
    tokens = random(ROWS, QUERIES, 8)
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if call := attention_call(func, args, kwargs or {}, result):
                seen.append(call.weights(rows))
            return result

    with Mode():
        module(tokens, tokens, tokens, need_weights=False, **masks)
    _, expected = module(tokens, tokens, tokens, need_weights=True, average_attn_weights=False, **masks)
    (weights,) = seen
    torch.testing.assert_close(weights, expected[rows], rtol=1e-12, atol=1e-12)


def test_softmax_by_hand_counts_over_the_last_of_four_dimensions() -> None:
    scores = random(ROWS, HEADS, QUERIES, KEYS)
    for function, args, kwargs in (
        (F.softmax, (scores, -1), {}), (torch.softmax, (scores, 3), {}), (torch.Tensor.softmax, (scores,), {"dim": -1}),
    ):  # fmt: skip
        result = function(*args, **kwargs)
        call = attention_call(function, args, kwargs, result)
        assert torch.equal(call.weights(slice(1, 2)), result[1:2])
        assert (call.output is result, call.query_dimension) == (True, 2)
    assert attention_call(F.softmax, (scores, 1), {}, scores.softmax(1)) is None
    assert attention_call(F.softmax, (scores[0, 0], -1), {}, scores[0, 0].softmax(-1)) is None
    assert attention_call(F.relu, (scores,), {}, scores.relu()) is None
