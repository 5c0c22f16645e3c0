import json
import stat
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import SMALL, random_network
from safetensors import safe_open
from safetensors.numpy import save_file

import repaint_jax
from repaint_jax.checkpoints import CheckpointError, load, load_about, save
from repaint_jax.models import EncoderUNet, UNet


@pytest.fixture(scope="module")
def model():
    return random_network(UNet, SMALL)


@pytest.fixture
def path(tmp_path, model):
    save(tmp_path / "model.safetensors", model, image_size=32, noise={"kind": "linear"})
    return tmp_path / "model.safetensors"


def leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(model)]


def rewrite(path, change_header=None, change_tensors=None):
    """Saves the file again with another header or other tensors."""
    with safe_open(path, framework="numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["repaint_jax"])
    header |= change_header or {}
    save_file(tensors | (change_tensors or {}), path, {"repaint_jax": json.dumps(header)})


def test_a_model_comes_back_bit_for_bit(path, model):
    again = load(path)
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for mine, theirs in zip(leaves(model), leaves(again), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_what_is_known_about_the_weights_comes_back(path):
    assert load_about(path) == {"image_size": 32, "noise": {"kind": "linear"}}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_weights_stored_in_16_bits_come_back_rounded_as_float32(path, model, dtype):
    whole = path.stat().st_size
    save(path, model, dtype=dtype)
    assert path.stat().st_size < 0.55 * whole
    for mine, theirs in zip(leaves(model), leaves(load(path)), strict=True):
        assert theirs.dtype == np.float32
        np.testing.assert_array_equal(mine.astype(dtype).astype(np.float32), theirs)


def test_the_compute_dtype_is_chosen_at_loading(path):
    assert load(path, dtype="bfloat16").dtype == jnp.bfloat16


def test_classifiers_are_kept_too(tmp_path):
    config = {**SMALL, "image_size": 4, "out_channels": 3}
    model = random_network(EncoderUNet, config)
    save(tmp_path / "classifier.safetensors", model)
    again = load(tmp_path / "classifier.safetensors")
    assert again.config == model.config
    assert jax.tree.structure(again) == jax.tree.structure(model)


def test_a_failed_save_leaves_the_old_file_and_no_other(path, model):
    before = path.read_bytes()
    huge = jax.tree.map(lambda p: p + 1e6, model)
    with pytest.raises(FloatingPointError):
        save(path, huge, dtype=jnp.float16)
    with pytest.raises(TypeError):
        save(path, model, about=object())
    with pytest.raises(TypeError, match=r"expected one of UNet, EncoderUNet, UNet2D.*; got Linear"):
        save(path, nnx.Linear(1, 1, rngs=nnx.Rngs(0)))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saved_files_are_as_readable_as_any_other(path):
    other = path.parent / "other"
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


@pytest.mark.parametrize("load_any", [load, load_about])
def test_a_missing_file_is_named(tmp_path, load_any):
    with pytest.raises(FileNotFoundError, match="absent"):
        load_any(tmp_path / "absent.safetensors")


def test_damaged_files_are_refused(path):
    whole = path.read_bytes()
    for content in (b"", b"not a checkpoint at all", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged, or not a safet"):
            load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"repaint_jax": "[]"}])
def test_other_programs_safetensors_are_refused(path, metadata):
    save_file({"x": np.zeros(3)}, path, metadata)
    with pytest.raises(CheckpointError, match="not written by repaint_jax"):
        load(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"version": 2}, "version 2; expected 'repaint_jax', version 1: update"),
        ({"format": "other"}, "format 'other', version 1; expected"),
        ({"architecture": "DiT"}, "architecture is 'DiT'; expected one of UNet, EncoderUNet"),
        ({"config": {**SMALL, "colour": 1}}, "does not make a model.*colour"),
        ({"config": {**SMALL, "model_channels": 33}}, "does not make a model.*divisible"),
        ({"config": {**SMALL, "in_channels": 1}}, r"down\.0\.0\.kernel is \(3, 3, 3, 32\), not"),
    ],
)
def test_headers_that_do_not_fit_are_explained(path, header, message):
    rewrite(path, header)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_tensors_that_do_not_fit_are_listed(path):
    rewrite(path, change_tensors={"extra": np.zeros(2)})
    with pytest.raises(CheckpointError, match=r"unexpected: extra \(2,\)"):
        load(path)


@pytest.mark.parametrize(("side", "patch_size"), [(32, 1), (64, 2)])
def test_the_shipped_faces_load_with_their_licence(side, patch_size):
    path = Path(repaint_jax.__file__).parent / "weights" / f"celeba{side}.safetensors"
    about = load_about(path)
    config = load(path).config
    assert (about["image_size"], config["patch_size"]) == (side, patch_size)
    assert (config["in_channels"], config["out_channels"]) == (3, 6)
    assert about["noise"] == {"kind": "linear", "num_train_steps": 1000}
    assert "non-commercial" in about["licence"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_header_nested_without_end_is_refused(path, text):
    save_file({"x": np.zeros(3)}, path, {"repaint_jax": text})
    with pytest.raises(CheckpointError, match="not written by repaint_jax"):
        load(path)


@pytest.mark.parametrize("part", ["architecture", "config", "about"])
def test_a_header_whose_parts_are_of_other_types_is_refused(path, part):
    rewrite(path, {part: [1]})
    for load_any in (load, load_about):
        with pytest.raises(CheckpointError, match="not written by repaint_jax"):
            load_any(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_res_blocks": 10**9}, "expected .* 0 to 200 residual blocks in the encoder"),
        ({"channel_mult": []}, "expected at least one level and .*; got 0 levels of 1 blocks"),
        ({"num_res_blocks": "1"}, "num_res_blocks: expected int, got '1'"),
        ({"channel_mult": [1, None]}, r"channel_mult: expected tuple\[float, ...\], got"),
        ({"num_heads": 1.5}, "num_heads: expected int, got 1.5"),
        ({"num_head_channels": True}, r"num_head_channels: expected int \| None, got True"),
        ({"use_scale_shift_norm": None}, "use_scale_shift_norm: expected bool, got None"),
    ],
)
def test_an_architecture_no_network_has_is_refused_before_it_is_built(path, change, message):
    rewrite(path, {"config": {**SMALL, **change}})
    with pytest.raises(CheckpointError, match=f"does not make a model: {message}"):
        load(path)


def test_weights_that_are_no_floats_are_refused(path):
    rewrite(path, change_tensors={"out_conv.bias": np.zeros(6, np.int64)})
    with pytest.raises(CheckpointError, match=r"out_conv\.bias is of the type I64; expected F16"):
        load(path)
