"""Whole runs: what they leave behind, that they survive, and every mistake on the way there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from config_files import ROOT, load_config
from flax import nnx
from PIL import Image
from training_toys import tiny_pictures, tiny_trainer

from repaint_jax.checkpoints import load, load_about
from repaint_jax.checkpoints.parameters import parameter_shapes
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.building import build_pipeline
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.training.checkpointing import Checkpoints
from repaint_jax.training.loop import check_metrics
from repaint_jax.training.run import (
    build_intervals,
    build_network,
    build_settings,
    run_training,
)
from repaint_jax.training.step import Metrics, Trainer
from repaint_jax.training.watch import Watch

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "scripts" / "train.py"


TINY = {
    "image_size": 8,
    "channels": 1,
    "num_steps": 41,
    "batch_size": 2,
    "log_every": 2,
    "checkpoint_every": 4,
    "sample_every": 40,
    "tensorboard": False,
    "data_notice": "noise",
    "model": {
        "channel_mult": (1,),
        "num_res_blocks": 0,
        "attention_resolutions": (),
        "dtype": "float32",
    },
    "noise": {"kind": "cosine", "num_train_steps": 100},
    "optimizer": {"warmup_steps": 2},
    "num_validation": 2,
    "preview": {"num_samples": 0, "num_steps": 4},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Keeps compiled programs, as these runs are of one network; also as environment variables."""
    fields = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.5,
    }
    before = {name: getattr(jax.config, name) for name in fields}
    for name, value in fields.items():
        jax.config.update(name, value)
    yield {name.upper(): str(value) for name, value in fields.items()}
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pictures.npz"
    np.savez(path, images=tiny_pictures())
    return path


@pytest.fixture
def config(data):
    config = load_config("train/folder")
    config.update(TINY)
    config.data = str(data)
    return config


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory):
    """A run that nothing disturbed, with previews and TensorBoard."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    config = load_config("train/folder")
    config.update(TINY)
    config.update({"data": str(data), "tensorboard": True})
    config.preview.num_samples = 2
    run_training(config, workdir)
    return workdir


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_weights_metrics_grids_and_checkpoints(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoints", "config.json", "ema.safetensors", "final.safetensors", "metrics.jsonl",
        "previews", "speed.jsonl", "tensorboard",
    ]  # fmt: skip
    metrics = lines(finished / "metrics.jsonl")
    assert [row["step"] for row in metrics] == [*range(2, 41, 2), 41]
    assert set(metrics[0]) == {"step", "loss", "mse", "grad_norm", "lr"}
    assert metrics[0]["mse"] == pytest.approx(1, abs=0.3)  # a fresh network predicts no noise
    assert all(row["pictures_per_second"] > 0 for row in lines(finished / "speed.jsonl"))
    assert sorted(path.name for path in (finished / "checkpoints").iterdir()) == ["40", "41"]
    assert sorted(path.name for path in (finished / "previews").iterdir()) == [
        f"{name}_{step:07d}.png" for name in ("inpainted", "samples") for step in (40, 41)
    ]
    assert len(list((finished / "tensorboard").iterdir())) == 1


def test_the_weights_know_all_that_inpainting_asks(finished, tmp_path):
    about = load_about(finished / "ema.safetensors")
    assert about["image_size"] == 8
    assert about["noise"] == {"kind": "cosine", "num_train_steps": 100}
    assert about["variance"] == "learned_range"
    assert about["data"] == "noise"
    assert about["training"]["num_steps"] == 41
    config = load_config("celeba")
    config.update({"image": "astronaut", "num_samples": 1, "noise": {"num_steps": "3"}})
    config.model.path = str(finished / "ema.safetensors")
    assert build_pipeline(config).noise.num_train_steps == 100
    run_inpainting(config, tmp_path / "out")
    with Image.open(tmp_path / "out" / "inpainted" / "astronaut_0.png") as picture:
        assert picture.size == (8, 8)
    config.noise.kind = "linear"
    with pytest.raises(ConfigError, match=r"trained with another schedule.*remove 'linear'"):
        build_pipeline(config)


def test_the_average_and_the_last_weights_are_what_they_say(finished):
    ema, final = (load(finished / f"{name}.safetensors") for name in ("ema", "final"))
    gap = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), ema, final)
    assert 0 < max(jax.tree.leaves(gap)) < 0.01


def command(config, workdir):
    arguments = [f"--config={ROOT / 'configs' / 'train' / 'folder.py'}", f"--workdir={workdir}"]
    for field, value in config.items():
        for name, inner in value.items() if hasattr(value, "items") else [("", value)]:
            path = f"{field}.{name}" if name else field
            if inner is not None:
                arguments.append(f"--config.{path}={inner}")
    return [sys.executable, SCRIPT, *arguments]


def test_a_run_that_is_killed_and_resumed_equals_one_that_was_not(
    config, finished, cache, tmp_path
):
    rng = np.random.default_rng()  # another moment every time
    with (tmp_path / "log").open("w") as log:
        run = subprocess.Popen(
            command(config, tmp_path / "cut"),
            stderr=log,
            env=os.environ | cache | {"JAX_NUM_CPU_DEVICES": "1"},  # as here
        )
        metrics = tmp_path / "cut" / "metrics.jsonl"
        wanted = int(rng.integers(1, 20))
        while run.poll() is None and not (
            metrics.exists() and metrics.read_text().count("\n") >= wanted
        ):
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL, (tmp_path / "log").read_text()
    run_training(config, tmp_path / "cut")
    names = ("metrics.jsonl", "ema.safetensors", "final.safetensors")
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_is_not_gone_on_with_under_another_configuration(finished, data):
    before = (finished / "metrics.jsonl").read_bytes()
    config = load_config("train/folder")
    config.update(TINY)
    config.update({"data": str(data), "batch_size": 4})
    with pytest.raises(ConfigError, match=r"config.batch_size: .* holds a run with 2, not 4"):
        run_training(config, finished)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"st')
    Watch(tmp_path, done=4, num_steps=8, batch_size=1, tensorboard=False).close()
    assert [row["step"] for row in lines(path)] == [2, 4]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    config, tmp_path, monkeypatch
):
    sound = Trainer.run

    def poisoned(self, state, pictures, length):
        if int(state.step) == 5:
            state = state._replace(params=jax.tree.map(lambda x: x * jnp.nan, state.params))
        return sound(self, state, pictures, length)

    monkeypatch.setattr(Trainer, "run", poisoned)
    message = r"not finite at step 6: the checkpoint of step 4 is kept; lower the learning"
    with pytest.raises(ConfigError, match=message) as raised:
        run_training(config, tmp_path)
    assert "\n" not in str(raised.value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(load(tmp_path / "ema.safetensors")))
    assert [row["step"] for row in lines(tmp_path / "metrics.jsonl")] == [2, 4]


def test_divergence_is_told_from_noise():
    def check(mse, done, latest=None):
        rows = np.full(4, mse)
        check_metrics(Metrics(rows, rows, rows, rows), done, 100, latest)

    check(3.0, done=100)  # the warm-up may be rough
    check(1.1, done=200)
    with pytest.raises(FloatingPointError, match=r"diverges: .* is 3 over steps 197 to 200, .*120"):
        check(3.0, done=200, latest=120)
    with pytest.raises(FloatingPointError, match="not finite at step 197"):
        check(np.nan, done=200)


def test_checkpoints_are_restored_whole_and_old_ones_go(tmp_path):
    trainer = tiny_trainer()
    checkpoints = Checkpoints(tmp_path, keep=2)
    state = trainer.init()
    assert checkpoints.restore(state) is state
    for step in (3, 6, 9):
        checkpoints.save(state._replace(step=jnp.int32(step)))
    restored = Checkpoints(tmp_path).restore(trainer.init())
    assert int(restored.step) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "9"]
    same = jax.tree.map(
        lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), restored.params, state.params
    )
    assert all(jax.tree.leaves(same))
    assert jax.random.key_data(restored.key).tolist() == jax.random.key_data(state.key).tolist()


@pytest.fixture
def full_disk(monkeypatch):
    """A disk with room for 1000 bytes, from when it is called."""
    usage = shutil.disk_usage("/")._replace(free=1000)
    return lambda: monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


NO_ROOM = r"checkpoint of 0 MB cannot be written, 0 MB are free: make room"


def test_a_full_disk_is_an_error_before_the_first_step(tmp_path, full_disk):
    checkpoints = Checkpoints(tmp_path)
    full_disk()
    with pytest.raises(OSError, match=NO_ROOM):
        checkpoints.check_room(tiny_trainer().init())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_an_error_and_the_last_checkpoint_stays(tmp_path, full_disk):
    checkpoints, state = Checkpoints(tmp_path), tiny_trainer().init()
    checkpoints.save(state._replace(step=jnp.int32(3)))
    full_disk()
    with pytest.raises(OSError, match=NO_ROOM):
        checkpoints.save(state._replace(step=jnp.int32(6)))
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    assert int(Checkpoints(tmp_path).restore(state).step) == 3


def test_a_workdir_that_cannot_be_written_is_an_error(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file.*: choose another folder"):
        run_training(config, tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": ""}, "config.data: which pictures"),
        ({"data": "nowhere"}, "config.data: nowhere: expected a picture"),
        ({"image_size": 9, "model.channel_mult": (1, 1)}, "image_size: .* 2 pixels, not 9"),
        ({"channels": 2}, "config.channels: 1 .grey. or 3"),
        ({"batch_size": 6, "micro_batches": 4}, "config.batch_size: 6 .* multiple of 4"),
        ({"num_steps": 0}, "config.num_steps: at least 1, not 0"),
        ({"log_every": 0}, "config.log_every: at least 1"),
        ({"checkpoint_every": 3}, "config.checkpoint_every: a multiple of config.log_every"),
        ({"seed": -1}, "config.seed: from 0 to"),
        ({"ema": 1.0}, "config.ema: at least 0 and below 1"),
        ({"model.model_channels": 24}, "config.model: every level's width must be divisible by"),
        ({"model.dtype": "float8"}, "config.model.dtype: float32 or bfloat16"),
        ({"noise.kind": "quadratic"}, "config.noise.kind: one of linear"),
        ({"noise.num_train_steps": 0}, "config.noise.num_train_steps: .* at least 1"),
        ({"optimizer.learning_rate": 0.0}, "config.optimizer.learning_rate: above 0"),
        ({"optimizer.warmup_steps": -1}, "config.optimizer.warmup_steps: at least 0"),
        ({"preview.num_steps": 101}, "config.preview: cannot visit 101 of 100"),
        ({"num_validation": 20}, "config.data: 20 pictures are too few"),
    ],
)
def test_a_bad_configuration_is_refused_before_anything_is_written(
    config, tmp_path, fields, message
):
    config.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=message) as raised:
        run_training(config, tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["folder", "fashion_mnist", "celeba64"])
def test_the_networks_of_the_configurations_are_as_small_as_they_say(name):
    config = load_config(f"train/{name}")
    model = nnx.eval_shape(lambda: build_network(config))
    count = sum(int(np.prod(shape)) for shape in parameter_shapes(model).values())
    assert count < (2e6 if name == "fashion_mnist" else 20e6)
    build_intervals(config)
    build_settings(config)
