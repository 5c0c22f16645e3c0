"""What a method's steps cost, counted: network calls, products with the Jacobian, operations, memory."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.memory import of_forward, of_method
from repaint_jax import NoiseSchedule, ResampleSchedule, trajectory
from repaint_jax.methods import (
    DAPS,
    METHODS,
    MMPS,
    DInG,
    Hybrid,
    Implicit,
    LanPaint,
    MCGDiff,
    RePaint,
)
from repaint_jax.methods.base import GRADIENT_COST, PRODUCT_COST
from repaint_jax.models import UNet

TRAINED = NoiseSchedule.linear(1000)
SHAPE = (4, 3, 1)
COUNTS = collections.Counter()
WITH_OPTIONS = [
    MMPS(iterations=3),
    Implicit(calls=2),
    Hybrid(calls=2, gradient_share=0.4),
    LanPaint(inner=2),
    DAPS(calls=3),
    MCGDiff(particles=3),
]
ALL = [*(construct() for construct in METHODS.values()), *WITH_OPTIONS]


def counted(name, x):
    """x / 2, computed where it is counted for how many pictures."""

    def half(x):
        COUNTS[name] += x.size // np.prod(SHAPE)
        return x / 2

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return jax.pure_callback(half, shape, x, vmap_method="expand_dims")


@jax.custom_vjp
def network(x):
    return counted("calls", x)


network.defvjp(
    lambda x: (counted("calls", x), None), lambda _, g: (counted("products", g),)
)


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_every_step_makes_the_calls_and_the_products_that_it_declares(method):
    noise, walk = TRAINED.respace(6), ResampleSchedule.create(6, 2, 2)
    pictures = 2
    keys = jax.random.split(jax.random.key(0), pictures)
    image, known = jnp.zeros(SHAPE), jnp.arange(12).reshape(4, 3) < 5
    segments = trajectory(
        keys, lambda x, t: network(x), image, known, noise=noise, resampling=walk, method=method,
        stops=range(1, walk.num_model_calls),
    )  # fmt: skip
    COUNTS.clear()
    costs = []
    for _, state in segments:
        jax.block_until_ready(state)
        costs.append((COUNTS["calls"] + PRODUCT_COST * COUNTS["products"]) / pictures)
        assert COUNTS["products"] == 0 or COUNTS["calls"] == pictures
        COUNTS.clear()
    np.testing.assert_array_equal(costs, method.cost(walk))
    assert GRADIENT_COST == 1 + PRODUCT_COST
