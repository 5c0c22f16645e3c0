"""oneDNN's convolution against XLA's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from repaint_jax.models.kernels import convolution, onednn

needs_onednn = pytest.mark.skipif(
    not onednn.available(), reason="needs the extra onednn, a C++ compiler and AVX-512"
)


needs_bfloat16 = pytest.mark.skipif(
    not onednn.faster_in_bfloat16(), reason="needs AVX-512 BF16 as well"
)


def by_xla(x, kernel, bias, stride=1, padding=(1, 1)):
    return convolution._biased_by_xla(x, kernel, bias, stride=stride, padding=padding)


def convolve(x, kernel, bias, stride=1, padding=(1, 1)):
    return convolution.convolve(x, kernel, bias, stride=stride, padding=padding)


def drawn(batch, height, width, channels, out, size=3):
    rng = np.random.default_rng(0)
    shapes = (batch, height, width, channels), (size, size, channels, out), (out,)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def assert_equal_up_to_rounding(actual, expected, terms):
    """Sums of so many products of about 1, in another order: some units of 2^-24 of their size."""
    np.testing.assert_allclose(actual, expected, atol=8 * 2**-24 * terms, rtol=0)


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [
        ((1, 64, 64, 64, 64), 3, 1, (1, 1)),  # of many bands
        ((3, 48, 40, 65, 31), 3, 1, (1, 1)),  # bands that do not divide the height
        ((2, 64, 64, 64, 96), 3, 2, (1, 1)),
        ((2, 64, 64, 64, 96), 3, 2, (0, 1)),
        ((2, 16, 16, 3, 32), 3, 1, (1, 1)),
        ((2, 16, 16, 32, 3), 3, 1, (1, 1)),
        ((2, 8, 12, 256, 512), 1, 1, (0, 0)),
        ((3, 8, 8, 96, 80), 3, 1, (1, 1)),  # a large kernel: slices that do not divide the channels
        ((2, 16, 16, 200, 129), 3, 2, (0, 1)),
        ((1, 32, 32, 64, 64), 5, 1, (2, 2)),
        ((1, 1, 1, 5, 7), 3, 1, (1, 1)),
    ],
)
def test_onednn_convolves_as_xla_does(shape, size, stride, padding):
    arrays = drawn(*shape, size)
    expected = by_xla(*arrays, stride, padding)
    assert_equal_up_to_rounding(
        jax.jit(convolve, static_argnums=(3, 4))(*arrays, stride, padding),
        expected,
        terms=size**2 * shape[3],
    )


@needs_onednn
def test_onednn_is_what_a_cpu_convolves_with():
    x, kernel, bias = drawn(1, 8, 8, 4, 4)
    jitted = jax.jit(convolve)
    assert onednn.CONVOLUTION in jitted.lower(x, kernel, bias).as_text()
    for_gpus = jitted.trace(x, kernel, bias).lower(lowering_platforms=("cuda",))
    assert onednn.CONVOLUTION not in for_gpus.as_text()
    halves = (array.astype(jnp.bfloat16) for array in (x, kernel, bias))
    taken = onednn.CONVOLUTION in jitted.lower(*halves).as_text()
    assert taken == onednn.faster_in_bfloat16()


@needs_bfloat16
@pytest.mark.parametrize("shape", [(1, 64, 64, 64, 64), (2, 16, 16, 65, 31), (2, 8, 8, 3, 256)])
@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_rounds_once_in_the_convolution_and_in_its_derivatives(shape, stride):
    exact = [array.astype(jnp.bfloat16).astype(jnp.float32) for array in drawn(*shape)]
    halves = [array.astype(jnp.bfloat16) for array in exact]
    expected, pull = jax.vjp(lambda *arrays: by_xla(*arrays, stride), *exact)
    actual, pull_half = jax.vjp(lambda *arrays: convolve(*arrays, stride), *halves)
    dy = jnp.sign(expected)
    pairs = [(actual, expected), *zip(pull_half(dy.astype(jnp.bfloat16)), pull(dy), strict=True)]
    for half, wanted in pairs:  # 2^-9 is the rounding of the result; sums are in float32
        largest = float(jnp.abs(wanted).max())
        np.testing.assert_allclose(
            half.astype(jnp.float32), wanted, rtol=2**-8, atol=largest * 2**-9
        )


@needs_onednn
def test_derivatives_run_by_onednn_and_only_those_that_are_asked_for():
    x, kernel, bias = drawn(1, 8, 8, 4, 6)
    by_all = jax.grad(lambda *arrays: convolve(*arrays).sum(), (0, 1))
    assert onednn.BY_KERNEL in jax.jit(by_all).lower(x, kernel, bias).as_text()
    by_x = jax.jit(jax.grad(lambda x: convolve(x, kernel, bias).sum())).lower(x).as_text()
    assert onednn.CONVOLUTION in by_x
    assert onednn.BY_KERNEL not in by_x


@needs_onednn
@pytest.mark.parametrize("shape", [(3, 32, 32, 64, 64), (3, 8, 8, 64, 128)])
def test_a_picture_does_not_depend_on_its_batch(shape):
    x, kernel, bias = drawn(*shape)
    batch = convolve(x, kernel, bias)
    np.testing.assert_array_equal(batch[1:2], convolve(x[1:2], kernel, bias))
    mapped = jax.jit(jax.vmap(lambda x: convolve(x[None], kernel, bias)[0]))
    np.testing.assert_array_equal(mapped(x), batch)


@needs_onednn
def test_a_map_over_weights_is_a_map_over_convolutions():
    x, kernel, bias = drawn(2, 8, 8, 4, 6)
    biases = jnp.stack([bias, -bias])
    mapped = jax.vmap(lambda bias: convolve(x, kernel, bias))(biases)
    for y, bias in zip(mapped, biases, strict=True):
        assert_equal_up_to_rounding(y, by_xla(x, kernel, bias), terms=36)


@needs_onednn
@pytest.mark.parametrize("padding", [(1, 1), (0, 1)])
@pytest.mark.parametrize("channels", [(4, 6), (40, 70)])
def test_derivatives_are_those_of_the_plain_convolution(padding, channels):
    arrays = drawn(2, 8, 8, *channels)

    def loss(convolution):
        return lambda *arrays: jnp.sin(convolution(*arrays, 2, padding)).sum()

    expected = jax.grad(loss(by_xla), (0, 1, 2))(*arrays)
    reverse = jax.jit(jax.grad(loss(convolve), (0, 1, 2)))(*arrays)
    for actual, wanted in zip(reverse, expected, strict=True):
        # sin moves by the rounding of so many terms.
        np.testing.assert_allclose(actual, wanted, atol=3e-6 * 9 * channels[0])
    _, forward = jax.jvp(loss(convolve), arrays, arrays)
    inner = sum(jnp.vdot(a, g) for a, g in zip(arrays, expected, strict=True))
    np.testing.assert_allclose(forward, inner, rtol=1e-4)


TWO_DEVICES = """
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_convolution import convolve, drawn

mesh = Mesh(np.array(jax.devices()), ("pictures",))
pictures, copied = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (["pictures"], []))
x, *weights = drawn(4, 8, 8, 4, 6)
arrays = (jax.device_put(x, pictures), *jax.device_put(weights, copied))
mapped = jax.vmap(lambda x, *weights: convolve(x[None], *weights)[0], (0, None, None))
compiled = jax.jit(mapped).lower(*arrays).compile()
y = compiled(*arrays)
assert mesh.size == 2 and y.sharding.is_equivalent_to(pictures, y.ndim), y.sharding
assert "repaint_convolution" in compiled.as_text() and "all-gather" not in compiled.as_text()
np.testing.assert_array_equal(y, convolve(x, *weights))
by_kernel = jax.grad(lambda kernel, x, bias: (mapped(x, kernel, bias) ** 2).sum())
shared = jax.jit(by_kernel)(arrays[1], arrays[0], arrays[2])
expected = by_kernel(weights[0], x, weights[1])
np.testing.assert_allclose(shared, expected, rtol=1e-4, atol=1e-3)
print("done")
"""
AVAILABLE = "from repaint_jax.models.kernels.onednn import available; print(available())"


def run(code, **environment):
    """What the code prints, and its warnings."""
    completed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.strip(), completed.stderr


@needs_onednn
def test_devices_convolve_their_own_pictures_without_gathering_them():
    assert run(TWO_DEVICES, JAX_NUM_CPU_DEVICES="2")[0] == "done"


def test_the_user_can_forbid_onednn():
    assert run(AVAILABLE, REPAINT_JAX_ONEDNN="0") == ("False", "")


@pytest.mark.slow
@needs_onednn
def test_onednn_is_compiled_once(tmp_path):
    assert run(AVAILABLE, XDG_CACHE_HOME=str(tmp_path))[0] == "True"
    (library,) = (tmp_path / "repaint_jax").iterdir()
    made = library.stat().st_mtime_ns
    assert run(AVAILABLE, XDG_CACHE_HOME=str(tmp_path), PATH="")[0] == "True"
    assert library.stat().st_mtime_ns == made


@needs_onednn
@pytest.mark.parametrize("compiler", ["no-such-compiler", shutil.which("false") or "false"])
def test_without_a_compiler_a_warning_tells_what_to_do(tmp_path, compiler):
    told, warning = run(AVAILABLE, XDG_CACHE_HOME=str(tmp_path), CXX=compiler)
    assert told == "False"
    assert "needs g++ 10 or newer" in warning
    assert "REPAINT_JAX_ONEDNN=0" in warning
    assert not list((tmp_path / "repaint_jax").iterdir())
