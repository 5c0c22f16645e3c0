import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from repaint_jax.models.layers import (
    Conv,
    GroupNorm,
    average_pool,
    self_attention,
    timestep_embedding,
    upsample_nearest,
)


def textbook_group_norm(x, scale, bias, groups=32, eps=1e-5):
    """In float64, group by group, as in the paper."""
    out = np.empty(x.shape)
    for picture, result in zip(x.astype(np.float64), out, strict=True):
        for channels in np.split(np.arange(x.shape[-1]), groups):
            values = picture[..., channels]
            result[..., channels] = (values - values.mean()) / np.sqrt(values.var() + eps)
    return out * scale + bias


@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
def test_group_norm_is_the_textbook_formula_even_for_a_large_mean(mean):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 6, 5, 64)) * np.linspace(0.5, 2, 64) + mean).astype(np.float32)
    scale, bias = rng.normal(size=(2, 64))
    film = rng.normal(size=(2, 2, 64)).astype(np.float32)
    norm = GroupNorm(64)
    norm.scale[...], norm.bias[...] = jnp.asarray(scale), jnp.asarray(bias)
    expected = textbook_group_norm(x, scale, bias)
    # x * a + b rounds like x itself: a few units of 2^-24 of the mean, scaled by |a| up to 10.
    atol = 40 * 2**-24 * (1 + mean)
    np.testing.assert_allclose(norm(jnp.asarray(x)), expected, atol=atol)
    modulated = expected * (1 + film[0][:, None, None]) + film[1][:, None, None]
    np.testing.assert_allclose(norm(jnp.asarray(x), *film), modulated, atol=4 * atol)


def test_group_norm_of_bfloat16_only_rounds_at_the_end():
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 32), jnp.bfloat16) + 10
    exact = GroupNorm(32)(x.astype(jnp.float32))
    half = GroupNorm(32)(x)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_array_equal(half, exact.astype(jnp.bfloat16))


def test_group_norm_wants_divisible_channels():
    with pytest.raises(ValueError, match="divisible by 32 groups; got 48"):
        GroupNorm(48)


def test_timestep_embedding_is_cosines_then_sines():
    # Four channels: frequencies 1 and 1/100.
    expected = [[1, 1, 0, 0], [-0.4161468, 0.9998000, 0.9092974, 0.0199987]]
    np.testing.assert_allclose(timestep_embedding(jnp.array([0, 2]), 4), expected, atol=1e-7)
    with pytest.raises(ValueError, match="even width; got 5"):
        timestep_embedding(jnp.array([0]), 5)


def test_resizing_by_hand():
    x = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    wide = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(upsample_nearest(x)[0, ..., 0], wide)
    np.testing.assert_array_equal(average_pool(x), [[[[2.5]]]])
    np.testing.assert_array_equal(average_pool(upsample_nearest(x)), x)


def test_a_strided_convolution_pads_all_sides():
    conv = Conv(1, 1, stride=2, rngs=nnx.Rngs(0))
    conv.kernel[...], conv.bias[...] = jnp.ones((3, 3, 1, 1)), jnp.zeros(1)
    out = conv(jnp.ones((1, 4, 4, 1)))
    np.testing.assert_array_equal(out[0, ..., 0], [[4, 6], [6, 9]])


@pytest.mark.parametrize("heads_first", [True, False])
def test_attention_is_softmax_per_head_in_either_order(heads_first):
    q, k, v = np.random.default_rng(0).normal(size=(3, 1, 5, 2, 4))  # B, N, heads, c
    logits = np.einsum("bqhc,bkhc->bhqk", q, k) / np.sqrt(4)
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.einsum("bhqk,bkhc->bqhc", weights, v).reshape(1, 5, 8)
    parts = [q[:, :, 0], k[:, :, 0], v[:, :, 0], q[:, :, 1], k[:, :, 1], v[:, :, 1]]
    order = range(6) if heads_first else [0, 3, 1, 4, 2, 5]
    qkv = jnp.asarray(np.concatenate([parts[i] for i in order], axis=-1), jnp.float32)
    out = self_attention(qkv, 2, heads_first=heads_first)
    np.testing.assert_allclose(out, expected, atol=1e-6)
