"""What a method's steps cost, counted: calls, products with the Jacobian, operations, memory."""

import collections
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from benchmarks.memory import of_forward, of_method
from repaint_jax import NoiseSchedule, ResampleSchedule, trajectory
from repaint_jax.methods import (
    DAPS,
    METHODS,
    MMPS,
    Hybrid,
    Implicit,
    LanPaint,
    MCGDiff,
    RePaint,
)
from repaint_jax.methods.base import GRADIENT_COST, GRADIENT_FREE, PRODUCT_COST, Observation
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
ALL = [
    *(construct() for construct in METHODS.values()),
    *(pytest.param(method, marks=pytest.mark.slow) for method in WITH_OPTIONS),
]


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


network.defvjp(lambda x: (counted("calls", x), None), lambda _, g: (counted("products", g),))


@pytest.mark.parametrize("method", ALL, ids=repr)
def test_every_step_makes_the_calls_and_the_products_that_it_declares(method):
    noise, walk = TRAINED.respace(6), ResampleSchedule.create(6, 2, 2)
    pictures = 2
    keys = jax.random.split(jax.random.key(0), pictures)
    image, known = jnp.zeros(SHAPE), jnp.arange(12).reshape(4, 3) < 5
    segments = trajectory(
        keys, lambda x, _: network(x), image, known, noise=noise, resampling=walk, method=method,
        stops=range(1, walk.num_model_calls),
    )  # fmt: skip
    COUNTS.clear()
    costs = []
    for _, state in segments:
        jax.block_until_ready(state)
        costs.append((COUNTS["calls"] + PRODUCT_COST * COUNTS["products"]) / pictures)
        COUNTS.clear()
    np.testing.assert_array_equal(costs, method.cost(walk))
    assert GRADIENT_COST == 1 + PRODUCT_COST


def operations(function, *arguments):
    """Floating point operations of a program; a loop's body counts once."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


# As many operations on 64x64 pixels as the network in the box, and quick to trace.
FACES = 5.3e9
WIDTH = round(FACES / 4 / (64 * 64 * 3))


def faces(weights, x, t):
    """Two layers without a nonlinearity, whose derivative costs what the function does."""
    into, out = weights
    return (x.reshape(1, -1) @ into @ out).reshape(x.shape)


# Each of as few calls as it can have, so that no loop has more than one pass.
FEW = {"daps": {"calls": 1}, "lanpaint": {"inner": 0}, "mcgdiff": {"particles": 4}}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_step_computes_beside_its_calls_is_little(name):
    method = METHODS[name](**FEW.get(name, {}))
    noise, walk = TRAINED.respace(8), ResampleSchedule.create(8, 1, 1)
    at = jax.tree.map(lambda numbers: jnp.asarray(numbers[2]), method.tabulate(noise, walk))
    observation = Observation(jnp.zeros((64, 64, 3)), jnp.zeros((64, 64, 1), bool))
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: method.init(key, observation, at))
    layers = [(64 * 64 * 3, WIDTH), (WIDTH, 64 * 64 * 3)]
    model = Partial(faces, [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in layers])
    step = operations(
        lambda model, method, *rest: method.step(model, *rest),
        model, method, state, observation, at, key,
    )  # fmt: skip
    # A loop's body counts once, so a product with the Jacobian is one call more.
    bare = FACES * (2 if name not in GRADIENT_FREE else method.cost(walk)[2])
    assert 0.99 < step / bare < 1.02


@pytest.fixture(scope="module")
def small():
    return UNet(
        model_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(),
        rngs=nnx.Rngs(0),
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", [RePaint(), MMPS()], ids=repr)
def test_a_walks_memory_does_not_grow_with_its_steps(small, method):
    few, many = (of_method(method, small, (1, 16, 16, 3), TRAINED.respace(n)) for n in (4, 64))
    # But for the numbers of each step: less than one picture in 60 steps.
    assert many - few < 16 * 16 * 3 * 4


@pytest.mark.slow
def test_a_gradient_keeps_one_set_of_activations(small):
    shape, noise = (2, 16, 16, 3), TRAINED.respace(4)
    forward = of_forward(small, shape)
    plain, gradient, further = (
        of_method(method, small, shape, noise) for method in (RePaint(), MMPS(), MMPS(iterations=3))
    )
    assert plain < 1.5 * forward  # 1.1
    assert gradient < 4 * plain  # 3.3; 7 where the network is deeper, as the guide has it
    assert further < 1.5 * gradient  # 1.3: of the network's activations there is one set


@pytest.mark.slow
def test_the_command_prints_the_table_of_the_guide(tiny):
    methods = "ddnm,mmps(eta=0,iterations=2)"
    command = [sys.executable, "-m", "benchmarks.memory", f"--model={tiny}", "--steps=2"]
    run = subprocess.run(
        [*command, "--batches=1,2", f"--methods={methods}"],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in run.stdout.splitlines()]
    head, _, *rows = table
    assert head == ["MiB", "batch 1", "batch 2"]
    assert [row[0] for row in rows] == ["forward", "ddnm", "mmps(eta=0,iterations=2)"]
    sizes = np.array([row[1:] for row in rows], float)
    assert (np.diff(sizes, axis=1) > 0).all()
    assert (sizes[2] > 1.5 * sizes[1]).all()
