"""One reader for all formats, and how a network is found in what a training saved."""

import jax
import numpy as np
import pytest
from golden_networks import checkpoint
from networks import SMALL, random_network
from safetensors.numpy import save_file
from torch_zip import dict_of, state_dict, write_state_dict, write_zip

from repaint_jax import NoiseSchedule
from repaint_jax.checkpoints import (
    CheckpointError,
    load_guided_diffusion,
    load_guided_diffusion_classifier,
    read_checkpoint,
    save,
)
from repaint_jax.checkpoints.guided_diffusion import ANCHOR
from repaint_jax.checkpoints.parameters import named_parameters
from repaint_jax.checkpoints.tensor_files import find_network, open_tensors
from repaint_jax.checkpoints.torch_file import read_torch_file
from repaint_jax.models import EncoderUNet, UNet, UNet2DModel

HEADS = {"num_heads": 4}


def same_weights(one, other):
    assert type(one) is type(other)
    assert one.config == other.config
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def tensors():
    return dict(read_torch_file(checkpoint("adm_tiny")))


@pytest.fixture(scope="module")
def network():
    return load_guided_diffusion(checkpoint("adm_tiny"), **HEADS)


def test_a_native_file_tells_what_it_was_given(tmp_path):
    network = random_network(UNet, SMALL)
    noise = {"kind": "cosine", "num_train_steps": 100}
    sampler = {"clip_denoised": False, "variance": "fixed_large"}
    path = tmp_path / "own.safetensors"
    save(path, network, noise=noise, image_size=[8, 16], prediction="v", sampler=sampler)
    read = read_checkpoint(path)
    same_weights(read.network, network)
    np.testing.assert_array_equal(read.noise.betas, NoiseSchedule.cosine(100).betas)
    assert (read.prediction, read.image_size) == ("v", (8, 16))
    assert (read.clip_denoised, read.variance) == (False, "fixed_large")
    first = read.fingerprint
    save(path, network)
    read = read_checkpoint(str(path), dtype="bfloat16")
    facts = (read.prediction, read.noise, read.image_size, read.clip_denoised, read.variance)
    assert facts == ("noise", None, None, None, None)
    assert read.network.dtype == "bfloat16"
    assert read.fingerprint != first
    save(path, network, noise=None, image_size=64, prediction=None, sampler=None)
    assert read_checkpoint(path).image_size == (64, 64)


@pytest.mark.parametrize(
    "about",
    [
        {"image_size": [64]},
        {"image_size": [64, "64"]},
        {"image_size": True},
        {"image_size": 0},
        {"noise": "linear"},
        {"noise": {"kind": "laplace", "num_train_steps": 10}},
        {"noise": {"kind": "linear", "num_train_steps": "10"}},
        {"noise": {"kind": "linear", "num_train_steps": 10, "colour": "red"}},
        {"prediction": "score"},
        {"sampler": "ddim"},
    ],
)
def test_what_a_native_file_cannot_mean_is_refused(tmp_path, about):
    save(tmp_path / "odd.safetensors", random_network(UNet, SMALL), **about)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors: nothing can be made") as raised:
        read_checkpoint(tmp_path / "odd.safetensors")
    assert "\n" not in str(raised.value)


def test_a_folder_of_diffusers_tells_all(golden):
    read = read_checkpoint(golden / "diffusers_tiny")
    assert isinstance(read.network, UNet2DModel)
    np.testing.assert_array_equal(read.noise.betas, NoiseSchedule.linear(1000).betas)
    assert (read.prediction, read.image_size) == ("noise", (8, 8))
    assert (read.clip_denoised, read.variance) == (True, "fixed_large")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_guided_diffusion_tells_its_network_alone(tmp_path, tensors, network, suffix):
    path = tmp_path / f"model{suffix}"
    (save_file(tensors, path) if suffix == ".safetensors" else write_state_dict(path, tensors))
    read = read_checkpoint(path, **HEADS)
    same_weights(read.network, network)
    facts = (read.prediction, read.noise, read.image_size, read.clip_denoised, read.variance)
    assert facts == ("noise", None, None, None, None)
    same_weights(load_guided_diffusion(path, **HEADS), network)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model._orig_mod.", "model.diffusion_model.", "_orig_mod.module."],
)
def test_what_a_training_puts_before_the_names_is_taken_off(tmp_path, tensors, network, prefix):
    """DataParallel's, torch.compile's, Lightning's; with tensors of the training beside."""
    named = {prefix + name: tensor for name, tensor in tensors.items()}
    if prefix.startswith("model."):
        named["betas"] = np.ones(3, np.float32)
    path = write_state_dict(tmp_path / "wrapped.ckpt", named)
    same_weights(read_checkpoint(path, **HEADS).network, network)
    same_weights(load_guided_diffusion(path, **HEADS), network)


def test_wrappers_of_single_layers_are_taken_off(tmp_path, tensors, network):
    named = {
        name.replace("middle_block.", "middle_block._orig_mod."): tensors[name] for name in tensors
    }
    assert named != tensors
    path = write_state_dict(tmp_path / "compiled.pt", named)
    same_weights(read_checkpoint(path, **HEADS).network, network)


def in_training(tmp_path, tensors, *keys):
    """A file with the weights under the last key, and under each before them times 2, 3, ..."""
    storages: dict[str, bytes] = {}
    items = {}
    for i, key in enumerate(reversed(keys)):
        scaled = {name: (i + 1) * tensor for name, tensor in tensors.items()}
        items[key] = state_dict(scaled, storages)
    items["optimizer"] = dict_of({"lr": b"F0.1\n", "step": b"I7\n"})
    return write_zip(tmp_path / "training.pt", dict_of(items), storages)


@pytest.mark.parametrize(
    "keys",
    [
        ("state_dict",),
        ("ema",),
        ("model", "ema"),
        ("ema_model", "model")[::-1],
        ("net", "net_ema"),
        ("model", "ema_state_dict"),
    ],
)
def test_averaged_weights_are_found_under_any_key_and_preferred(tmp_path, tensors, network, keys):
    path = in_training(tmp_path, tensors, *keys)
    same_weights(read_checkpoint(path, **HEADS).network, network)


def test_one_of_two_equal_networks_is_taken_out_as_the_error_says(tmp_path, tensors, network):
    path = in_training(tmp_path, tensors, "discriminator", "generator")
    with pytest.raises(CheckpointError, match=r"2 networks.* 'generator\.', 'discrim") as raised:
        load_guided_diffusion(path, **HEADS)
    follow(raised.value, path, new_path=tmp_path / "one.safetensors", chosen="generator.")
    same_weights(read_checkpoint(tmp_path / "one.safetensors", **HEADS).network, network)


def follow(error, path, *, new_path, chosen):
    """Runs the call in an error, its names given."""
    call = str(error).split("you want: ")[1].replace("'discriminator.'", repr(chosen))
    module, name = call.split("(")[0].rsplit(".", 1)
    scope = {"path": path, "new_path": new_path, name: None}
    exec(f"from {module} import {name}", scope)
    exec(call.replace(f"{module}.", ""), scope)


def test_a_classifier_is_found_in_a_training_too(tmp_path):
    path = checkpoint("classifier_tiny")
    named = {f"module.{name}": tensor for name, tensor in read_torch_file(path).items()}
    again = write_state_dict(tmp_path / "classifier.pt", named)
    heads = {"num_head_channels": 32}
    classifier = load_guided_diffusion_classifier(again, **heads)
    assert isinstance(classifier, EncoderUNet)
    same_weights(classifier, load_guided_diffusion_classifier(path, **heads))


def test_only_the_networks_own_tensors_are_read(tmp_path, tensors):
    path = in_training(tmp_path, tensors, "model", "ema")
    found, prefix = find_network(open_tensors(path), ANCHOR)
    assert prefix == "ema."
    assert found.shapes == {name: tensor.shape for name, tensor in tensors.items()}


def test_safetensors_under_another_suffix_are_recognised(tmp_path, tensors, network):
    save_file(tensors, tmp_path / "model.pt")
    same_weights(read_checkpoint(tmp_path / "model.pt", **HEADS).network, network)


def test_what_is_no_known_network_is_said_with_its_names(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"encoder.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"of no known network.*its tensors are encoder\.wei"):
        read_checkpoint(path)
    save_file({"conv_in.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match=r"weights of diffusers.*give the folder that has"):
        read_checkpoint(path)
    for absent in (tmp_path / "absent.pt", tmp_path / "absent"):
        with pytest.raises(FileNotFoundError, match=r"there is no .*absent.*expected a \.safeten"):
            read_checkpoint(absent)


def test_names_are_taken_apart_once_and_weights_arrive_where_they_belong(
    tmp_path, tensors, network
):
    """A network whose averaged weights differ from the others: none is mixed up."""
    path = in_training(tmp_path, tensors, "model", "ema")
    read = named_parameters(read_checkpoint(path, **HEADS).network)
    for name, parameter in named_parameters(network).items():
        np.testing.assert_array_equal(read[name][...], parameter[...])
