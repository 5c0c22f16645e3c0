import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import random_network

from repaint_jax.checkpoints.parameters import abstract_model
from repaint_jax.models import EncoderUNet, UNet
from repaint_jax.models.layers import patchify, unpatchify

SMALL = {
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "num_heads": 4,
}
LEVEL = {"channel_mult": [1], "attention_resolutions": []}  # the least, to compile quickly
CLASSIFIER = {**SMALL, "image_size": 8, "out_channels": 10}

forward = jax.jit(lambda model, x, t, y=None: model(x, t, y))


def small(seed=0, dtype=jnp.float32, **changes):
    return random_network(UNet, {**SMALL, **changes}, seed, dtype=dtype)


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def batch():
    return jax.random.normal(jax.random.key(1), (3, 8, 8, 3)), jnp.array([0, 250, 999])


def test_a_fresh_network_is_random_but_predicts_zero():
    fresh = UNet(**{**SMALL, **LEVEL}, rngs=nnx.Rngs(0))
    kernel = fresh.down[0][0].kernel[...]
    bound = 27**-0.5  # fan-in 3 * 3 * 3
    assert 0.99 * bound < jnp.abs(kernel).max() < bound
    out = forward(fresh, jnp.ones((1, 5, 7, 3)), jnp.array([5]))
    np.testing.assert_array_equal(out, np.zeros((1, 5, 7, 6)))


def test_any_size_that_halves_will_do(model):
    assert model.downsampling == 2
    out = jax.eval_shape(model, jnp.ones((1, 6, 10, 3)), jnp.array([5]))
    assert out.shape == (1, 6, 10, 6)
    assert out.dtype == jnp.float32


def test_pictures_of_a_batch_do_not_mix_and_vmap_is_the_batch(model, batch):
    x, t = batch
    batched = forward(model, x, t)
    single = jax.vmap(lambda m, x, t: m(x[None], t[None])[0], in_axes=(None, 0, 0))
    np.testing.assert_allclose(jax.jit(single)(model, x, t), batched, rtol=1e-4, atol=1e-5)
    assert np.abs(batched).mean() > 0.05


def test_a_network_of_patches_is_the_network_on_unshuffled_pictures(batch):
    x, t = batch
    patched = small(patch_size=2)
    assert patched.downsampling == 4
    plain = small(in_channels=12, out_channels=24)
    expected = unpatchify(forward(plain, patchify(x, 2), t), 2)
    np.testing.assert_array_equal(forward(patched, x, t), expected)
    with pytest.raises(ValueError, match="divisible by 4"):
        jax.eval_shape(patched, jnp.ones((1, 6, 8, 3)), jnp.array([5]))
    with pytest.raises(ValueError, match="patch_size must be 1 or more"):
        small(patch_size=0)


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
    given = {**SMALL, "num_classes": 7, "use_scale_shift_norm": False, "dropout": 0.1}
    network = abstract_model(UNet, given, dtype="bfloat16")
    config = json.loads(json.dumps(network.config))
    assert config.items() >= given.items()
    again = abstract_model(UNet, config, dtype=jnp.bfloat16)
    assert jax.tree.structure(network) == jax.tree.structure(again)


def test_config_rebuilds_the_classifier():
    network = abstract_model(EncoderUNet, CLASSIFIER)
    assert network.downsampling == 2
    again = abstract_model(EncoderUNet, json.loads(json.dumps(network.config)))
    assert jax.tree.structure(network) == jax.tree.structure(again)


def test_bfloat16_computes_nearly_the_same_with_float32_weights(model, batch):
    half = small(dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(half)} == {jnp.dtype(jnp.float32)}
    exact, rough = forward(model, *batch), forward(half, *batch)
    assert rough.dtype == jnp.float32
    # An operation rounds by up to 2^-9; a hundred in a row, as a random walk, make that 2 %.
    error = jnp.sqrt(jnp.mean((rough - exact) ** 2) / jnp.mean(exact**2))
    assert 1e-4 < error < 0.04


def test_pooling_networks_have_no_weights_between_levels(batch):
    pooled = small(resblock_updown=False, conv_resample=False)
    convolved = small(resblock_updown=False)
    assert jax.tree.leaves(pooled.down[2]) == jax.tree.leaves(pooled.up[1][-1]) == []
    assert len(jax.tree.leaves(convolved.down[2])) == 2
    assert forward(pooled, *batch).shape == (3, 8, 8, 6)


def test_dropout_happens_only_with_a_key_and_follows_it(batch):
    network = small(dropout=0.5, **LEVEL)

    @jax.jit
    def train(key):
        return network(*batch, rngs=nnx.Rngs(dropout=key))

    first, again, other = (train(jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    np.testing.assert_array_equal(forward(network, *batch), forward(small(**LEVEL), *batch))


def test_labels_steer_and_are_asked_for(batch):
    network = small(num_classes=10, **LEVEL)
    x, t = batch
    zero, one = (forward(network, x, t, jnp.full(3, label)) for label in (0, 1))
    assert not np.allclose(zero, one)
    with pytest.raises(ValueError, match=r"a label 0 \.\. 10 - 1 .* got none"):
        network(x, t)
    with pytest.raises(ValueError, match=r"y of shape \(3,\); got labels of shape \(1,\)"):
        network(x, t, jnp.zeros(1, int))


@pytest.mark.parametrize(
    ("shape", "times", "message"),
    [
        ((1, 8, 8, 4), 1, r"pictures \[B, H, W, 3\]; got an array of shape \(1, 8, 8, 4\)"),
        ((8, 8, 3), 1, r"got an array of shape \(8, 8, 3\)"),
        ((1, 8, 9, 3), 1, "divisible by 2; got 8 x 9: pad or resize to 8 x 10"),
        ((1, 0, 8, 3), 1, "got 0 x 8: pad or resize to 2 x 8"),
        ((2, 8, 8, 3), 1, r"a timestep for each picture, shape \(2,\); got shape \(1,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_explained(model, shape, times, message):
    with pytest.raises(ValueError, match=message):
        model(jnp.zeros(shape), jnp.zeros(times))


def test_labels_for_a_network_without_classes_are_refused(model, batch):
    with pytest.raises(ValueError, match="knows no classes"):
        model(*batch, jnp.zeros(3, int))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 48}, r"divisible by the 32 groups .* gives \(48, 96\)"),
        ({"attention_resolutions": [16, 8]}, r"not picture sides: expected some of \[1, 2\]"),
        ({"num_heads": 5}, "attention over 64 channels .* 5 heads; set num_heads"),
        ({"num_head_channels": 48}, "attention over 64 channels .* 48 channels a head"),
        ({"num_head_channels": -1}, "-1 channels a head"),
    ],
)
def test_architectures_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        UNet(**{**SMALL, **changes}, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "adaptive"}, "pool must be 'attention'.*got 'adaptive'"),
        ({"image_size": 9}, "image_size must be divisible by 2, for 2 levels; got 9"),
    ],
)
def test_classifiers_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        EncoderUNet(**{**CLASSIFIER, **changes}, rngs=nnx.Rngs(0))


def test_classifiers_take_their_own_size_only():
    network = abstract_model(EncoderUNet, CLASSIFIER)
    with pytest.raises(ValueError, match="takes pictures of 8 x 8; got 8 x 16"):
        network(jnp.zeros((1, 8, 16, 3)), jnp.zeros(1))
