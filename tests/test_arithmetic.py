"""bfloat16 beside float32; the dtype "auto": told, recorded, and kept by a run that goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from config_files import load_config
from flax import nnx

from repaint_jax.checkpoints import load, load_about, save
from repaint_jax.errors import ConfigError
from repaint_jax.evaluation.building import build_set
from repaint_jax.evaluation.run import run_evaluation
from repaint_jax.inpainting import arithmetic
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.models import UNet
from repaint_jax.models.layers import plain_attention
from repaint_jax.pictures.images import save_image
from repaint_jax.runtime.progress import CallBar


@pytest.fixture
def config(tiny, tmp_path):
    rng = np.random.default_rng(0)
    save_image(tmp_path / "faces" / "a.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    model = load(tiny)
    model.out_conv.kernel[...] = rng.normal(0, 0.1, model.out_conv.kernel.shape)
    save(tmp_path / "model.safetensors", model, **load_about(tiny))
    config = load_config()
    config.update(
        {
            "image": str(tmp_path / "faces"),
            "num_samples": 1,
            "batch_size": 1,
            "model": {"path": str(tmp_path / "model.safetensors"), "dtype": "auto"},
            "noise": {"num_steps": "20"},
            "resampling": {"jump_length": 10, "num_resamples": 2},
        }
    )
    return config


def network(dtype):
    """With attention over 16x16 pixels, and all weights drawn: a fresh network returns zeros."""
    model = UNet(
        model_channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention_resolutions=(1, 2),
        num_head_channels=8,
        dtype=dtype,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(0)
    for _, parameter in nnx.to_flat_state(nnx.state(model)):
        shape = parameter.shape
        deviation = np.prod(shape[:-1]) ** -0.5 if len(shape) > 1 else 0.1
        parameter.set_value(jnp.asarray(rng.normal(0, deviation, shape), parameter.dtype))
    return model


def predicted(dtype, x):
    """As a trajectory asks for it: picture by picture, at one timestep."""
    model = network(dtype)
    return jax.jit(jax.vmap(lambda x: model(x[None], jnp.full(1, 300))[0]))(x)


def noise(batch=4):
    return jnp.asarray(np.random.default_rng(1).normal(size=(batch, 16, 16, 3)), jnp.float32)


@pytest.mark.slow
def test_a_networks_output_in_bfloat16_is_within_a_hundredth_of_that_in_float32():
    exact, half = (predicted(dtype, noise()) for dtype in (jnp.float32, jnp.bfloat16))
    error = float(jnp.linalg.norm(half - exact) / jnp.linalg.norm(exact))
    assert 1e-4 < error < 1e-2


def test_attention_in_bfloat16_does_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    q, k, v = jnp.asarray(rng.normal(size=(3, 4, 256, 8, 32)), jnp.bfloat16)
    attention = jax.jit(plain_attention)
    one = [attention(q[i : i + 1], k[i : i + 1], v[i : i + 1]) for i in range(4)]
    np.testing.assert_array_equal(attention(q, k, v), jnp.concatenate(one))


TWO_DEVICES = """
from repaint_jax.runtime.devices import keep_roundings
keep_roundings()
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from test_arithmetic import noise, predicted

mesh = Mesh(np.array(jax.devices()), ("pictures",))
x = noise()
spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("pictures")))
for dtype in (jnp.float32, jnp.bfloat16):
    whole = predicted(dtype, x)
    for size in (1, 2):
        parts = [predicted(dtype, x[i : i + size]) for i in range(0, 4, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    shared = predicted(dtype, spread)
    assert mesh.size == 2 and len(shared.sharding.device_set) == 2
    np.testing.assert_array_equal(shared, whole)
print("done")
"""


@pytest.mark.slow
def test_a_networks_output_does_not_depend_on_batch_and_devices():
    completed = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "2"},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert completed.stdout == "done\n", completed.stderr


def on_a_machine_for(dtype, monkeypatch):
    monkeypatch.setattr(arithmetic, "best_dtype", lambda: (dtype, "a reason"))


def pictures(folder):
    paths = (folder / "inpainted").rglob("*.png")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def killed(config, out, monkeypatch):
    """A run that is interrupted in the middle of its only batch."""

    def follow(self, progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CallBar, "follow", follow)
        with pytest.raises(KeyboardInterrupt):
            run_inpainting(config, out)
    assert list((out / "unfinished").glob("*.safetensors"))


def test_what_auto_is_here_is_told_in_a_line_and_recorded(config, tmp_path, monkeypatch, capsys):
    on_a_machine_for("bfloat16", monkeypatch)
    run_inpainting(config, tmp_path / "auto")
    assert "computing in bfloat16: a reason\n" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "auto" / "config.json").read_text())
    assert recorded["model"]["dtype"] == "bfloat16"
    assert config.model.dtype == "auto"
    for dtype in ("bfloat16", "float32"):
        config.model.dtype = dtype
        run_inpainting(config, tmp_path / dtype)
    assert "computing in" not in capsys.readouterr().out
    assert pictures(tmp_path / "auto") == pictures(tmp_path / "bfloat16")
    assert pictures(tmp_path / "auto") != pictures(tmp_path / "float32")


def test_a_killed_run_goes_on_bit_for_bit_in_the_dtype_it_began_with(
    config, tmp_path, monkeypatch, capsys
):
    on_a_machine_for("bfloat16", monkeypatch)
    run_inpainting(config, tmp_path / "whole")
    killed(config, tmp_path / "killed", monkeypatch)
    on_a_machine_for("float32", monkeypatch)
    capsys.readouterr()
    run_inpainting(config, tmp_path / "killed")
    told = capsys.readouterr().out
    assert "computing in bfloat16: as this run began\n" in told
    assert "going on with the unfinished run" in told
    assert pictures(tmp_path / "killed") == pictures(tmp_path / "whole")


def test_another_dtype_than_that_of_a_killed_run_is_refused(config, tmp_path, monkeypatch):
    on_a_machine_for("bfloat16", monkeypatch)
    killed(config, tmp_path / "out", monkeypatch)
    config.model.dtype = "float32"
    message = "config.model.dtype: .* an unfinished run with 'bfloat16', not 'float32'; put it back"
    with pytest.raises(ConfigError, match=message):
        run_inpainting(config, tmp_path / "out")


def test_an_evaluation_keeps_the_dtype_of_the_pictures_it_has(config, tmp_path, monkeypatch):
    chosen = build_set(config, data=config.image, masks=["half"], schedules=["4/2/1"])
    on_a_machine_for("bfloat16", monkeypatch)
    run_evaluation(config, chosen, tmp_path / "out")
    on_a_machine_for("float32", monkeypatch)
    more = build_set(config, data=config.image, masks=["half"], schedules=["4/2/1", "4/2/2"])
    run_evaluation(config, more, tmp_path / "out")
    assert len(pictures(tmp_path / "out")) == 2
    config.model.dtype = "float32"
    with pytest.raises(ConfigError, match=r"config.model.dtype: .* with 'bfloat16'"):
        run_evaluation(config, more, tmp_path / "out")
