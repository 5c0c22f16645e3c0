from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from repaint_jax.models import layers
from repaint_jax.models.layers import (
    Conv,
    GroupNorm,
    Linear,
    attention,
    average_pool,
    in_computing_dtype,
    patchify,
    plain_attention,
    self_attention,
    timestep_embedding,
    unpatchify,
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


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Lets this machine lower for a GPU, which takes none; JAX asks for cuDNN while it traces."""

    class Cudnn:
        cudnn_get_version = staticmethod(lambda: 91300)

    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.cuda_versions", Cudnn)
    monkeypatch.setattr(layers, "cuda_capability", lambda: (8, 0))


def lowered(function, platform, shape, dtype=jnp.bfloat16):
    x = jax.ShapeDtypeStruct(shape, dtype)
    fresh = partial(function)  # of which JAX has no older trace
    return jax.jit(fresh).trace(x, x, x).lower(lowering_platforms=(platform,)).as_text()


def slope(q, k, v):
    return jax.grad(lambda *qkv: (attention(*qkv).astype(jnp.float32) ** 2).sum())(q, k, v)


def test_attention_is_one_kernel_on_a_gpu_and_products_elsewhere(pretended_gpu):
    # Alone; as the sampler maps it over pictures; and with a gradient, as a classifier guides.
    for function, shape in [(attention, (2, 64, 4, 32)), (jax.vmap(attention), (3, 1, 65, 4, 64)),
                            (jax.vmap(slope), (3, 1, 64, 2, 64))]:  # fmt: skip
        assert "__cudnn$fmha" in lowered(function, "cuda", shape)
        for platform in ("cpu", "tpu", "rocm"):
            assert "__cudnn" not in lowered(function, platform, shape)


@pytest.mark.parametrize(
    ("shape", "dtype", "capability"),
    [
        ((2, 64, 4, 32), jnp.float32, (9, 0)),
        ((2, 64, 4, 12), jnp.bfloat16, (9, 0)),
        ((2, 64, 1, 512), jnp.bfloat16, (9, 0)),
        ((2, 64, 4, 32), jnp.bfloat16, (7, 5)),
    ],
)
def test_attention_is_plain_where_the_kernel_is_not_made_for_it(
    pretended_gpu, monkeypatch, shape, dtype, capability
):
    monkeypatch.setattr(layers, "cuda_capability", lambda: capability)
    assert "__cudnn" not in lowered(attention, "cuda", shape, dtype)


def test_both_ways_of_attention_are_one_function(pretended_gpu):
    """What runs here behind the choice is the plain one; the kernel's scale is JAX's default."""
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 16, 4, 8), jnp.bfloat16)
    plain = plain_attention(q, k, v)
    np.testing.assert_array_equal(jax.jit(attention)(q, k, v), plain.reshape(2, 16, 32))
    ours, jaxs = (f(*(x.astype(jnp.float32) for x in (q, k, v)))
                  for f in (plain_attention, jax.nn.dot_product_attention))  # fmt: skip
    np.testing.assert_allclose(ours, jaxs, atol=1e-6)


@pytest.mark.parametrize(
    ("told", "expected"),
    [([], (0, 0)), (["9.0"], (9, 0)), (["12.1", "8.6"], (8, 6)), (["gfx90a"], (0, 0))],
)
def test_the_weakest_gpu_decides(monkeypatch, told, expected):
    class Device:
        def __init__(self, capability):
            self.compute_capability = capability

    monkeypatch.setattr(jax, "local_devices", lambda: [object(), *map(Device, told)])
    assert layers.cuda_capability.__wrapped__() == expected


def test_kernels_cast_once_give_the_same_bits():
    class Network(nnx.Module):
        def __init__(self):
            self.conv = Conv(3, 32, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
            self.norm = GroupNorm(32)
            self.embed = Linear(32, 8, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.embed(self.norm(self.conv(x)))

    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    network = Network()
    expected = jax.jit(lambda model, x: model(x))(network, x)
    cast = in_computing_dtype(network)
    assert cast.conv.kernel.dtype == cast.conv.bias.dtype == jnp.bfloat16
    assert cast.norm.scale.dtype == cast.embed.kernel.dtype == jnp.float32
    np.testing.assert_array_equal(jax.jit(lambda model, x: model(x))(cast, x), expected)


def test_patches_are_torchs_pixel_unshuffle():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    patches = patchify(jnp.asarray(x), 2)
    for c, y, z in np.ndindex(3, 2, 2):  # torch: channel c * 4 + y * 2 + x
        np.testing.assert_array_equal(patches[..., c * 4 + y * 2 + z], x[:, y::2, z::2, c])
    np.testing.assert_array_equal(unpatchify(patches, 2), x)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.pixel_unshuffle(torch.from_numpy(x.transpose(0, 3, 1, 2)), 2)
    np.testing.assert_array_equal(patches, theirs.numpy().transpose(0, 2, 3, 1))
