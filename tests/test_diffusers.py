"""Folders of diffusers, without diffusers: what is in them, and what can be wrong with them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from config_files import load_config
from networks import random_network
from safetensors.numpy import load_file, save_file
from test_experiment import change
from torch_zip import write_state_dict

from repaint_jax import NoiseSchedule, RePaint, noise_from_v, noise_from_x0
from repaint_jax.adapters import noise_predictor
from repaint_jax.checkpoints import (
    CheckpointError,
    load,
    load_diffusers,
    read_checkpoint,
    save,
)
from repaint_jax.checkpoints.diffusers import (
    checkpoint_shapes,
    diffusers_about,
    load_diffusers_unet,
)
from repaint_jax.checkpoints.parameters import abstract_model
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.building import build_pipeline, build_sampler
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.models import UNet2DModel

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

forward = jax.jit(lambda model, x, t: model(x, t))


@pytest.fixture
def folder(tmp_path, golden):
    """A copy of the golden folder, to be changed."""
    return Path(shutil.copytree(golden / "diffusers_tiny", tmp_path / "tiny"))


def edit(path, **changes):
    """Changes a JSON file; None removes a field."""
    content = {**json.loads(path.read_text()), **changes}
    removed = [field for field in changes if changes[field] is None]
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in removed}))


def scheduler(folder, **changes):
    edit(folder / "scheduler" / "scheduler_config.json", **changes)


def check_output(model, golden):
    reference = np.load(golden / "diffusers_tiny" / "output.npz")
    x, out = (reference[name].transpose(0, 2, 3, 1) for name in ("x", "out"))
    error = np.abs(forward(model, x, reference["t"]) - out).max() / np.abs(out).max()
    assert error < 1e-5


def test_outputs_are_the_reference_implementations(golden):
    model, noise = load_diffusers(golden / "diffusers_tiny")
    check_output(model, golden)
    np.testing.assert_array_equal(noise.betas, NoiseSchedule.linear(1000).betas)


@pytest.mark.parametrize("kind", ["flat", "unet"])
def test_every_layout_of_a_folder_is_found(folder, golden, kind):
    if kind == "flat":  # as google/ddpm-cifar10-32
        for file in (*folder.glob("unet/*"), *folder.glob("scheduler/*")):
            file.rename(folder / file.name)
        (folder / "unet").rmdir()
    model, _ = load_diffusers(str(folder / "unet" if kind == "unet" else folder))
    check_output(model, golden)


def test_pickled_weights_with_the_names_of_early_versions_load(folder, golden):
    tensors = load_file(folder / WEIGHTS)
    for new, old in OLD.items():
        tensors = {name.replace(f".{new}.", f".{old}."): t for name, t in tensors.items()}
    assert sum("proj_attn" in name for name in tensors) == 8
    (folder / WEIGHTS).unlink()
    write_state_dict((folder / WEIGHTS).with_suffix(".bin"), tensors)
    check_output(load_diffusers(folder)[0], golden)


def test_weights_in_16_bits_load_as_float32(folder):
    tensors = load_file(folder / WEIGHTS)
    save_file({k: t.astype(np.float16) for k, t in tensors.items()}, folder / WEIGHTS)
    model, _ = load_diffusers(folder, dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(model)} == {jnp.dtype(jnp.float32)}
    assert model.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("prediction", "wrap"), [("sample", noise_from_x0), ("v_prediction", noise_from_v)]
)
def test_other_predictions_become_noise(folder, prediction, wrap):
    scheduler(folder, prediction_type=prediction)
    model, noise = load_diffusers(folder)
    x, t = jnp.ones((1, 8, 8, 3)) / 2, jnp.array([300])
    expected = wrap(load_diffusers_unet(folder), noise)
    np.testing.assert_array_equal(forward(model, x, t), forward(expected, x, t))
    if prediction == "sample":  # as it was said before prediction_type was
        scheduler(folder, prediction_type=None, predict_epsilon=False)
        assert diffusers_about(folder)["prediction"] == "x0"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, NoiseSchedule.linear(1000)),
        ({"num_train_timesteps": 50, "beta_end": 0.1}, NoiseSchedule.linear(50, 1e-4, 0.1)),
        ({"beta_schedule": "scaled_linear"}, NoiseSchedule.scaled_linear(1000, 1e-4, 0.02)),
        ({"beta_schedule": "sigmoid"}, NoiseSchedule.sigmoid(1000)),
        ({"beta_schedule": "squaredcos_cap_v2"}, NoiseSchedule.cosine(1000)),
        ({"trained_betas": [0.1, 0.2]}, NoiseSchedule.from_betas([0.1, 0.2])),
    ],
)
def test_noise_schedules_are_read(folder, settings, expected):
    scheduler(folder, **settings)
    np.testing.assert_array_equal(load_diffusers(folder)[1].betas, expected.betas)


def test_what_the_files_say_besides_the_weights(folder):
    ends = {"beta_start": 1e-4, "beta_end": 0.02}
    assert diffusers_about(folder) == {
        "image_size": 8,
        "noise": {"kind": "linear", "num_train_steps": 1000, **ends},
        "prediction": "noise",
        "sampler": {"clip_denoised": True, "variance": "fixed_large"},
    }
    scheduler(folder, variance_type="fixed_small_log", clip_sample=False, clip_sample_range=3.0)
    edit(folder / "unet" / "config.json", sample_size=[8, 16])
    about = diffusers_about(folder)
    assert about["sampler"] == {"clip_denoised": False, "variance": "fixed_small"}
    assert about["image_size"] == [8, 16]
    assert read_checkpoint(folder).image_size == (8, 16)
    edit(folder / "unet" / "config.json", out_channels=6)
    scheduler(folder, variance_type=None)  # a network with a variance brings it
    assert diffusers_about(folder)["sampler"] == {"clip_denoised": False}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta_schedule": "laplace"}, "squaredcos_cap_v2 and sigmoid; got 'laplace'"),
        ({"beta_schedule": None}, "got None"),  # as in schedulers of other processes
        ({"beta_end": 1.5}, "betas must lie strictly between 0 and 1"),
        ({"beta_end": "much"}, "scheduler_config.json: "),
        ({"num_train_timesteps": 0}, "at least 1 step"),
        (
            {"rescale_betas_zero_snr": True},
            "rescale_betas_zero_snr is not .* with .*epsilon",
        ),
        ({"prediction_type": "flow"}, "one of epsilon, sample, v_prediction; got 'flow'"),
        ({"clip_sample_range": 2.0}, "clip_sample_range must be 1.*got 2.0"),
        ({"thresholding": True}, "thresholding is not supported"),
        ({"variance_type": "learned"}, "fixed_large_log, learned_range; got 'learned'"),
        ({"variance_type": "learned_range"}, "'learned_range' does not fit the network.*not twice"),
    ],
)
def test_schedulers_that_do_not_fit_are_explained(folder, settings, message):
    scheduler(folder, **settings)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_diffusers(folder)
    assert "scheduler_config.json: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_networks_that_do_not_fit_are_explained(folder):
    config = folder / "unet" / "config.json"

    def refused(message, **changes):
        before = config.read_text()
        edit(config, **changes)
        with pytest.raises(CheckpointError, match=message) as raised:
            load_diffusers(folder)
        assert str(folder / "unet") in str(raised.value)
        assert "\n" not in str(raised.value)
        config.write_text(before)

    refused("is of a UNet2DConditionModel; only UNet2DModel", _class_name="UNet2DConditionModel")
    refused("'SkipUpBlock2D' is not supported; known are", up_block_types=["SkipUpBlock2D"] * 2)
    refused(r"of another shape: conv_in.weight is \(8, 3, 3, 3\)", in_channels=1, out_channels=1)
    edit(config, colour="red")
    with pytest.warns(UserWarning, match="UNet2DModel has no settings colour: left out"):
        load_diffusers(folder)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config.json is no JSON"):
        load_diffusers(folder)
    config.write_text("[]")
    with pytest.raises(CheckpointError, match=r"config.json holds no settings"):
        load_diffusers(folder)


def test_missing_and_damaged_files_are_named(folder):
    whole, weights = (folder / WEIGHTS).read_bytes(), folder / WEIGHTS
    tensors = load_file(weights)
    del tensors["conv_out.bias"]
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=r"tiny/unet: .*missing: conv_out.bias \(3,\)"):
        load_diffusers(folder)
    weights.write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="damaged, or not a safetensors file"):
        load_diffusers(folder)
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(b"\x80\x02legacy")
    with pytest.raises(CheckpointError, match=r"torch's legacy format, before 1.6"):
        load_diffusers(folder)
    weights.with_suffix(".bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights in .*unet; expected .*safetensors or"):
        load_diffusers(folder)
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(FileNotFoundError, match=r"no scheduler_config.json in .*tiny or in its"):
        load_diffusers(folder)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*config.json; expected a folder"):
        load_diffusers(folder)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent; give a folder"):
        load_diffusers(folder / "absent")


# The hub, of which only the cache can be tested.


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and no network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_model_of_the_hub_comes_out_of_the_cache(cache, folder, golden, suffix):
    if suffix == ".bin":
        write_state_dict((folder / WEIGHTS).with_suffix(suffix), load_file(folder / WEIGHTS))
        (folder / WEIGHTS).unlink()
    commit = "0" * 40
    repository = cache / "models--google--ddpm-tiny-8"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    model, noise = load_diffusers("google/ddpm-tiny-8")
    check_output(model, golden)
    assert noise.num_steps == 1000


def test_only_what_is_needed_is_fetched_and_safetensors_first(cache, folder, monkeypatch):
    asked = []

    def snapshot_download(name, allow_patterns):
        asked.append((name, set(allow_patterns)))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    load_diffusers("google/ddpm-tiny-8")
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="no weights in"):
        load_diffusers("google/ddpm-tiny-8")
    first, again, second = (files for _, files in asked[:3])
    assert first == again
    assert first ^ second == {
        f"{place}diffusion_pytorch_model{shards}.{kind}"
        for place in ("", "unet/")
        for shards in ("", "-*-of-*")
        for kind in ("safetensors", "bin")
    }
    assert any("diffusion_pytorch_model.*.safetensors" in files for _, files in asked[3:])
    assert first >= {"config.json", "unet/config.json", "scheduler/scheduler_config.json"}


def test_a_model_that_cannot_be_fetched_says_what_to_do(cache):
    with pytest.raises(CheckpointError) as raised:
        load_diffusers("google/ddpm-cifar10-32")
    message = str(raised.value)
    assert message.startswith("google/ddpm-cifar10-32 is no folder, and the hub's model of that")
    assert (
        "download https://huggingface.co/google/ddpm-cifar10-32 elsewhere and give its" in message
    )
    assert "\n" not in message


def test_without_the_hubs_package_it_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'repaint-jax\[hub\]'"):
        load_diffusers("google/ddpm-cifar10-32")


def test_a_path_of_a_file_is_no_name_of_the_hub():
    for name in ("models/face.pt", "./face", "a/b/c", "/google/ddpm"):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            load_diffusers(name)


# Memory.

MEASURE = """
import re, sys
from pathlib import Path
from repaint_jax.checkpoints import load_diffusers

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

load_diffusers(sys.argv[1])
before = peak()
model, _ = load_diffusers(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_loading_takes_little_more_memory_than_the_model(folder, golden, suffix):
    config = {"block_out_channels": [192, 256], "norm_num_groups": 32, "layers_per_block": 4}
    edit(folder / "unet" / "config.json", **config)
    config = {**load_diffusers_unet(golden / "diffusers_tiny").config, **config}
    shapes = checkpoint_shapes(abstract_model(UNet2DModel, config))
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    weights = (folder / WEIGHTS).with_suffix(suffix)
    (folder / WEIGHTS).unlink()
    save_file(tensors, weights) if suffix == ".safetensors" else write_state_dict(weights, tensors)
    size = weights.stat().st_size
    assert size > 50e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, golden / "diffusers_tiny", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1.5 * size


# Configurations.


@pytest.fixture
def config(folder, tmp_path):
    config = load_config("ddpm_cifar10")
    config.update({"image": "astronaut", "model": {"path": str(folder)}})
    config.update({"noise": {"num_steps": "3"}, "resampling": {"num_resamples": 1}})
    return config


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_folder_is_inpainted_with(config, folder, tmp_path, prediction):
    scheduler(folder, prediction_type=prediction, trained_betas=[0.1, 0.5, 0.9, 0.95])
    run_inpainting(config, tmp_path / "out")
    assert (tmp_path / "out" / "grid.png").is_file()
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["calls"] == 3


def test_the_file_says_how_to_sample_unless_the_configuration_does(config):
    pipeline = build_pipeline(config)
    assert pipeline.shape == (8, 8)
    assert build_sampler(config, pipeline).method == RePaint(variance="fixed_large")
    change(config, method="repaint(variance='fixed_small', clip_denoised=False)")
    assert build_sampler(config, pipeline).method == RePaint(clip_denoised=False)


def test_the_schedule_of_a_folder_binds(config, tmp_path):
    change(config, noise__kind="cosine")
    with pytest.raises(ConfigError, match=r"trained with another schedule.*remove 'cosine'"):
        run_inpainting(config, tmp_path / "out")


def test_a_folder_can_be_saved_in_the_native_format(config, folder, tmp_path):
    scheduler(folder, prediction_type="v_prediction", beta_end=0.03)
    path = tmp_path / "native.safetensors"
    save(path, load_diffusers_unet(folder), **diffusers_about(folder))
    assert load(path).config == load_diffusers_unet(folder).config
    run_inpainting(config, tmp_path / "folder")
    run_inpainting(change(config, model__path=str(path)), tmp_path / "native")
    pictures = [tmp_path / run / "inpainted" / "astronaut_0.png" for run in ("folder", "native")]
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_class_embeds": 10}, r"class_label: a class from 0 to 9 .*none is given"),
        ({"class_embed_type": "timestep"}, "takes classes that are not numbers"),
        ({"in_channels": 4, "out_channels": 4}, "takes 4 channels"),
    ],
)
def test_networks_that_a_configuration_cannot_use_are_refused(
    config, folder, monkeypatch, fields, message
):
    edit(folder / "unet" / "config.json", **fields)
    unet = abstract_model(UNet2DModel, fields)
    reader = "repaint_jax.checkpoints.diffusers.load_diffusers_unet"
    monkeypatch.setattr(reader, lambda *_, **__: unet)
    monkeypatch.setattr("repaint_jax.loading.in_computing_dtype", lambda network: network)
    with pytest.raises(ConfigError, match=message):
        build_pipeline(config)


@pytest.mark.slow
def test_a_network_of_classes_draws_the_one_asked_for(config, folder, tmp_path):
    """Also where it predicts v: the label is settled before the prediction is converted."""
    settings = {**load_diffusers_unet(folder).config, "num_class_embeds": 10}
    unet = random_network(UNet2DModel, settings)
    scheduler(folder, prediction_type="v_prediction")
    path = tmp_path / "classes.safetensors"
    save(path, unet, **diffusers_about(folder))
    change(config, model__path=str(path), model__class_label=3)
    x, t = jnp.ones((1, 8, 8, 3)) / 2, jnp.array([500])
    noise = load_diffusers(folder)[1]
    ours = build_pipeline(config).model(x, t)
    expected = noise_predictor(lambda x, t: unet(x, t, jnp.array([3])), "v", noise)(x, t)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    change(config, model__class_label=4)
    assert np.abs(build_pipeline(config).model(x, t) - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["celebahq256", "church256", "bedroom256", "cifar10"])
def test_the_published_models_have_configurations(name):
    config = load_config(f"ddpm_{name}")
    assert config.model.path.startswith("google/ddpm-")
    assert (config.noise.num_steps, *config.resampling.values()) == ("250", 10, 10, None)
