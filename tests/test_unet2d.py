"""diffusers' network by itself; that its outputs are diffusers' is in test_diffusers*.py."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import random_network

from repaint_jax.checkpoints import load, save
from repaint_jax.checkpoints.parameters import abstract_model
from repaint_jax.models import UNet2DModel

SMALL = {
    "block_out_channels": [8, 12],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
LEVEL = {  # the least, to compile quickly
    "block_out_channels": [8],
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "mid_block_type": None,
}

forward = jax.jit(lambda model, x, t, y=None: model(x, t, y))


def small(seed=0, dtype=jnp.float32, **changes):
    return random_network(UNet2DModel, {**SMALL, **changes}, seed, dtype=dtype)


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def batch():
    return jax.random.normal(jax.random.key(1), (3, 8, 8, 3)), jnp.array([0, 250, 999])


def test_any_size_that_halves_will_do(model):
    assert model.downsampling == 2
    out = jax.eval_shape(model, jnp.ones((1, 6, 10, 3)), jnp.array([5]))
    assert out.shape == (1, 6, 10, 3)
    assert out.dtype == jnp.float32


def test_pictures_of_a_batch_do_not_mix_and_vmap_is_the_batch(model, batch):
    x, t = batch
    batched = forward(model, x, t)
    single = jax.vmap(lambda m, x, t: m(x[None], t[None])[0], in_axes=(None, 0, 0))
    np.testing.assert_allclose(jax.jit(single)(model, x, t), batched, rtol=1e-4, atol=1e-5)
    assert np.abs(batched).mean() > 0.05


def test_new_weights_do_not_recompile(model, batch):
    traces = []

    @jax.jit
    def counted(model, x, t):
        traces.append(1)
        return model(x, t)

    other = small(seed=1)
    assert jax.tree.structure(model) == jax.tree.structure(other)
    assert not np.allclose(counted(model, *batch), counted(other, *batch))
    assert len(traces) == 1


def test_config_is_json_and_rebuilds_the_network():
    given = {**SMALL, "num_class_embeds": 7, "dropout": 0.1, "resnet_time_scale_shift": "default"}
    network = abstract_model(UNet2DModel, given, dtype="bfloat16")
    config = json.loads(json.dumps(network.config))
    assert config.items() >= given.items()
    again = abstract_model(UNet2DModel, config, dtype=jnp.bfloat16)
    assert jax.tree.structure(network) == jax.tree.structure(again)
    assert network.num_classes == 7


def test_the_native_format_keeps_it_bit_for_bit(tmp_path, model):
    save(tmp_path / "model.safetensors", model)
    again = load(tmp_path / "model.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(model)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(again), jax.tree.leaves(model))


def test_bfloat16_computes_nearly_the_same_with_float32_weights(model, batch):
    half = small(dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    exact, rough = forward(model, *batch), forward(half, *batch)
    assert rough.dtype == jnp.float32
    # An operation rounds by up to 2^-9; a hundred in a row, as a random walk, make that 2 %.
    error = jnp.sqrt(jnp.mean((rough - exact) ** 2) / jnp.mean(exact**2))
    assert 1e-4 < error < 0.04


def test_dropout_happens_only_with_a_key_and_follows_it(batch):
    network = small(dropout=0.5, **LEVEL)

    @jax.jit
    def train(key):
        return network(*batch, rngs=nnx.Rngs(dropout=key))

    first, again, other = (train(jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(forward(network, *batch), forward(small(**LEVEL), *batch))


def test_a_fresh_network_can_be_trained(batch):
    network = UNet2DModel(**{**SMALL, **LEVEL}, rngs=nnx.Rngs(0))
    loss = jax.jit(jax.grad(lambda model: jnp.mean(model(*batch) ** 2)))
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(loss(network)))


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        ({"num_class_embeds": 10}, None, r"y of shape \(3,\) \(labels 0 \.\. 10 - 1\); got none"),
        ({"num_class_embeds": 10}, jnp.zeros(1, int), r"got shape \(1,\)"),
        ({"class_embed_type": "timestep"}, None, r"y of shape \(3,\) \(timestep\); got none"),
        ({"class_embed_type": "identity"}, jnp.zeros(3), r"y of shape \(3, 32\) \(identity\)"),
        ({}, jnp.zeros(3, int), "knows no classes"),
    ],
)
def test_labels_are_asked_for_and_must_fit(batch, kind, y, message):
    with pytest.raises(ValueError, match=message):
        small(**LEVEL, **kind)(*batch, y)


def test_inputs_that_do_not_fit_are_explained(model):
    with pytest.raises(ValueError, match=r"got 8 x 9: pad or resize to 8 x 10"):
        model(jnp.zeros((1, 8, 9, 3)), jnp.zeros(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
            "down_block_types: 'SkipDownBlock2D' is not supported; known are DownBlock2D, AttnD",
        ),
        ({"up_block_types": ["CrossAttnUpBlock2D"] * 2}, "known are UpBlock2D, AttnUpBlock2D, Res"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "known are UNetMidBlock2D, None"),
        ({"time_embedding_type": "fourier"}, "'fourier' is not supported; known are positional"),
        ({"downsample_padding": 2}, "downsample_padding: 2 is not supported; known are 0, 1"),
        ({"resnet_time_scale_shift": "spatial"}, "known are default, scale_shift"),
        ({"act_fn": "tanh"}, "act_fn: 'tanh' is not supported; known are silu"),
        ({"class_embed_type": "projection"}, "class_embed_type: 'projection'"),
        ({"block_out_channels": [8]}, "got 2, 2 and 1"),
        ({"block_out_channels": [8, 10]}, "divisible by 4 groups; got 10"),
        ({"attention_head_dim": 16}, "a head of 16 channels does not fit into a level of 12"),
    ],
)
def test_architectures_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        UNet2DModel(**{**SMALL, **changes}, rngs=nnx.Rngs(0))
    assert "\n" not in str(raised.value)
