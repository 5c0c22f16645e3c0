"""Which devices share a batch, and that sharing changes no picture."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from config_files import ROOT

from repaint_jax.runtime import devices


class Core:
    platform = "cpu"


class Chip:
    platform = "gpu"


def shared(monkeypatch, found, batch_size, copied=()):
    monkeypatch.setattr(jax, "local_devices", lambda: found)
    monkeypatch.setattr(devices, "Mesh", lambda taken, names: taken)
    return list(devices.mesh_for(batch_size, copied))


@pytest.mark.parametrize(
    ("batch_size", "count"), [(8, 4), (6, 3), (10, 2), (7, 1), (1, 1), (2, 2), (4, 4)]
)
def test_a_batch_is_shared_by_as_many_as_share_it_evenly(monkeypatch, batch_size, count):
    cores = [Core() for _ in range(4)]
    assert shared(monkeypatch, cores, batch_size) == cores[:count]


def test_cores_do_not_copy_large_weights_but_chips_do(monkeypatch):
    class Weights:
        nbytes = 1 << 30

    cores, chips = [Core(), Core()], [Chip(), Chip()]
    assert shared(monkeypatch, cores, 2, [Weights()]) == cores[:1]
    assert shared(monkeypatch, chips, 2, [Weights()]) == chips


def counted(environment):
    code = (
        "from repaint_jax.runtime.devices import one_device_a_core; one_device_a_core();"
        "import jax; print(jax.local_device_count())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def test_every_core_is_a_device_unless_the_user_decides(monkeypatch):

    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES", raising=False)
    assert counted(dict(os.environ)) == devices.num_cores()
    flag = "--xla_force_host_platform_device_count=3"
    assert counted({**os.environ, "XLA_FLAGS": flag}) == 3
    assert counted({**os.environ, "JAX_NUM_CPU_DEVICES": "5"}) == 5


def test_without_accelerators_the_mesh_is_real():
    mesh = devices.mesh_for(4, [np.zeros(3)])
    assert mesh.axis_names == ("pictures",)
    assert 4 % mesh.size == 0


PICTURES = """
import sys
import jax, numpy as np
from repaint_jax import NoiseSchedule, ResampleSchedule, inpaint_batch
from repaint_jax.checkpoints import load
from repaint_jax.runtime.devices import Sharing

shared = Sharing.of(load(sys.argv[1]), 8)
rng = np.random.default_rng(0)
pictures = inpaint_batch(
    shared.spread(jax.random.split(jax.random.key(0), 8)),
    shared.model,
    shared.spread(rng.uniform(-1, 1, (8, 16, 16, 3)).astype(np.float32)),
    shared.spread(rng.uniform(size=(8, 16, 16)) < 0.5),
    noise=NoiseSchedule.linear(1000).respace(10),
    resampling=ResampleSchedule.create(10, 5, 2),
)
assert len(pictures.sharding.device_set) == jax.device_count()
np.save(sys.argv[2], pictures)
"""


@pytest.mark.slow
def test_eight_devices_make_the_pictures_of_one(tiny, tmp_path):
    made = []
    for count in ("1", "8"):
        file = tmp_path / f"{count}.npy"
        subprocess.run(
            [sys.executable, "-c", PICTURES, str(tiny), str(file)],
            env={**os.environ, "JAX_NUM_CPU_DEVICES": count, "PYTHONPATH": str(ROOT)},
            check=True,
        )
        made.append(np.load(file))
    np.testing.assert_allclose(made[1], made[0], rtol=0, atol=1e-5)
    assert made[0].std() > 0.1


ELSEWHERE = """
import jax, jax.numpy as jnp
from jax.tree_util import Partial
from repaint_jax import NoiseSchedule, ResampleSchedule, inpaint_batch

weights = jax.device_put(jnp.float32(0.5), jax.devices()[1])
pictures = inpaint_batch(
    jax.random.split(jax.random.key(0), 2),
    Partial(lambda w, x, t: w * x, weights),
    jnp.zeros((4, 4, 3)),
    jnp.ones((4, 4), bool),
    noise=NoiseSchedule.linear(1000).respace(4),
    resampling=ResampleSchedule.create(4, 1, 1),
)
assert pictures.sharding.device_set == weights.sharding.device_set
"""


@pytest.mark.slow
def test_a_batch_goes_where_the_weights_are():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, check=True)
