"""Normalisation by foreign code against XLA's, whose oracle is in test_layers.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_convolution import run

from repaint_jax.models.kernels import normalization, onednn

pytestmark = pytest.mark.skipif(
    not onednn.available(), reason="needs the extra onednn, a C++ compiler and AVX-512"
)
HOW = {"eps": 1e-5}


def foreign(*arrays, silu=True):
    return normalization.normalize(*arrays, num_groups=32, silu=silu, **HOW)


def by_xla(*arrays, silu=True):
    return normalization._by_xla(*arrays, groups=32, silu=silu, **HOW)


def drawn(batch=3, height=40, width=24, channels=192):
    rng = np.random.default_rng(0)
    shapes = (batch, height, width, channels), (batch, channels), (batch, channels)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("channels", [32, 96, 192, 512])
@pytest.mark.parametrize("silu", [True, False])
def test_values_and_gradients_are_those_of_xla(channels, silu):
    arrays = drawn(channels=channels)
    assert onednn.NORMALIZATION in jax.jit(foreign).lower(*arrays).as_text()
    (actual, pull), (expected, by) = (
        jax.vjp(partial(function, silu=silu), *arrays) for function in (foreign, by_xla)
    )
    dy = jnp.cos(expected)
    for mine, wanted in zip([actual, *pull(dy)], [expected, *by(dy)], strict=True):
        # Sums over 960 pixels of values of about 1, in another order.
        atol = 40 * 2**-24 * float(jnp.abs(wanted).max())
        np.testing.assert_allclose(mine, wanted, atol=atol, rtol=0)


@pytest.mark.skipif(not onednn.faster_in_bfloat16(), reason="needs AVX-512 BF16")
def test_bfloat16_is_float32_rounded_to_the_nearest():
    x, gain, offset = drawn()
    arrays = x.astype(jnp.bfloat16), gain, offset
    assert onednn.NORMALIZATION in jax.jit(foreign).lower(*arrays).as_text()
    (actual, pull), (expected, by) = jax.vjp(foreign, *arrays), jax.vjp(by_xla, *arrays)
    assert actual.dtype == jnp.bfloat16
    # Sums in another order turn the rounding of a value in a thousand, or so.
    assert (actual != expected).mean() < 0.01
    dy = jnp.cos(expected)
    for mine, wanted in zip(pull(dy), by(dy), strict=True):
        largest = float(jnp.abs(wanted).max())
        mine, wanted = mine.astype(jnp.float32), wanted.astype(jnp.float32)
        np.testing.assert_allclose(mine, wanted, rtol=2**-7, atol=largest * 2**-8)


def test_tangents_and_second_derivatives_are_those_of_xla():
    arrays, tangents = drawn(1, 4, 4, 32), [array / 3 for array in drawn(1, 4, 4, 32)]
    mine, wanted = (jax.jvp(f, arrays, tangents)[1] for f in (foreign, by_xla))
    np.testing.assert_allclose(mine, wanted, atol=1e-5)

    def slope(f):
        return jax.grad(
            lambda x: (jax.grad(lambda x: jnp.sin(f(x, *arrays[1:])).sum())(x) ** 2).sum()
        )

    np.testing.assert_allclose(slope(foreign)(arrays[0]), slope(by_xla)(arrays[0]), atol=1e-3)


def test_a_picture_does_not_depend_on_its_batch():
    x, gain, offset = drawn()
    whole = foreign(x, gain, offset)
    np.testing.assert_array_equal(foreign(x[1:2], gain[1:2], offset[1:2]), whole[1:2])
    mapped = jax.vmap(lambda x: foreign(x[None], gain[:1], offset[:1])[0])(x)
    np.testing.assert_array_equal(mapped[:1], whole[:1])


TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from repaint_jax.models.kernels import onednn
from test_normalization import drawn, foreign

pictures = NamedSharding(Mesh(np.array(jax.devices()), ("pictures",)), PartitionSpec("pictures"))
arrays = drawn(4, 4, 4, 32)
shared = [jax.device_put(array, pictures) for array in arrays]
gradients = jax.jit(jax.grad(lambda *arrays: jnp.sin(foreign(*arrays)).sum(), (0, 1, 2)))
compiled = gradients.lower(*shared).compile()
program = compiled.as_text()
assert onednn.NORMALIZATION_GRADIENT in program and "all-gather" not in program
for mine, alone in zip(compiled(*shared), gradients(*arrays), strict=True):
    np.testing.assert_array_equal(mine, alone)
print("done")
"""


def test_devices_take_the_derivatives_of_their_own_pictures():
    assert run(TWO_DEVICES, JAX_NUM_CPU_DEVICES="2")[0] == "done"
