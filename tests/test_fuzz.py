"""Whatever files and configurations hold: it can be used, or a line says what to mend."""

import copy
import functools
import io
import json
import resource
import shutil
import struct
import warnings
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from config_files import load_config
from conftest import GOLDEN
from golden_networks import checkpoint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from networks import SMALL, random_network
from PIL import Image
from torch_zip import dict_of, integer, tensor, write_state_dict, write_zip

from repaint_jax.checkpoints import (
    CheckpointError,
    load,
    load_about,
    load_diffusers,
    load_guided_diffusion,
    load_guided_diffusion_classifier,
    save,
)
from repaint_jax.checkpoints.torch_file import read_torch_file
from repaint_jax.cli import USER_ERRORS
from repaint_jax.inpainting import run as experiment
from repaint_jax.models import UNet
from repaint_jax.pictures.datasets import find_files, fitted, read_arrays, read_file
from repaint_jax.pictures.finding import find_images
from repaint_jax.pictures.images import image_shape, load_image
from repaint_jax.pictures.mask_files import load_mask
from repaint_jax.pipeline import Pipeline

# A lack of memory while reading is a fault of the reader.
READING_ERRORS = tuple(error for error in USER_ERRORS if error is not MemoryError)

STATM = Path("/proc/self/statm")
few = settings(max_examples=-(-settings().max_examples // 2))  # where one costs a network's shapes


@contextmanager
def read_safely():
    """Lets a user's errors pass, and neither others nor a gigabyte more of memory."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if STATM.is_file():
        used = int(STATM.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, hard))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except READING_ERRORS as error:
        # NumPy and Pillow reserve as much as a header says, but fill only what there is.
        if isinstance(error, CheckpointError) and isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@st.composite
def damaged(draw, whole):
    """Bytes with some of them flipped, set, cut off, left out, put in or repeated."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 16))
        match draw(st.sampled_from(["flip", "set", "extreme", "cut", "leave out", "repeat"])):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set":
                data[at:end] = draw(st.binary(max_size=16))
            case "extreme":
                data[at : at + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"])
                )
            case "cut":
                del data[at:]
            case "leave out":
                del data[at:end]
            case "repeat":
                data[at:at] = data[at:end] * draw(st.integers(1, 3))
    return bytes(data)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
extremes = st.sampled_from(
    [0, -1, 10**9, 10**30, "1", [], {}, [1], [10**9], ["x"], [[1]], {"a": 1}]
).map(copy.deepcopy)
anything = extremes | st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner),
)


@st.composite
def altered(draw, whole):
    """JSON with some of its parts changed or left out."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        node = value
        while node:
            key = draw(st.sampled_from([*node] if isinstance(node, dict) else range(len(node))))
            if not isinstance(node[key], dict | list) or draw(st.booleans()):
                if draw(st.integers(0, 4)):
                    node[key] = draw(anything)
                else:
                    del node[key]
                break
            node = node[key]
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


# Pictures, alone and in collections.


def picture_file(kind, mode, **options):
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    deep = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    picture = deep if mode == "I;16" else Image.fromarray(values).convert(mode)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
PICTURES = [
    *(picture_file("PNG", mode) for mode in ("RGB", "L", "P", "RGBA", "1", "I;16")),
    *(picture_file(kind, "RGB", exif=EXIF) for kind in ("JPEG", "PNG", "WEBP")),
    *(picture_file("TIFF", mode) for mode in ("RGB", "F", "I;16")),
    picture_file("TIFF", "RGB", compression="tiff_lzw"),
    *(picture_file(kind, "RGB") for kind in ("GIF", "BMP", "PPM")),
]


@settings(max_examples=8 * settings().max_examples)
@given(damaged(st.sampled_from(PICTURES)))
def test_any_bytes_are_a_picture_or_named_in_an_error(folder, data):
    path = folder / "a.png"
    path.write_bytes(data)
    with read_safely():
        assert min(image_shape(path)) > 0
        assert load_image(path, size=(4, 6)).shape == (4, 6, 3)
        assert load_mask(path, (9, 7)).shape == (9, 7)


def zip_of(members, compression=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy_of(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


ZIP = zip_of({"a.png": PICTURES[0], "folder/b.bmp": PICTURES[-2]})
NPY = npy_of(np.zeros((3, 5, 5), np.uint8))
NPZ = zip_of({"images.npy": NPY, "labels.npy": npy_of(np.arange(3))})


@settings(max_examples=8 * settings().max_examples)
@given(damaged(st.just(ZIP)))
def test_any_bytes_are_a_zip_of_pictures_or_named_in_an_error(folder, data):
    path = folder / "a.zip"
    path.write_bytes(data)
    with read_safely():
        for file in find_files(str(path)):
            with read_safely():
                assert read_file(file, (4, 4, 3)).shape == (4, 4, 3)


@settings(max_examples=8 * settings().max_examples)
@given(
    damaged(st.sampled_from([NPZ, NPY]))
    | damaged(st.just(NPY)).map(lambda npy: zip_of({"images.npy": npy}))
)
def test_any_bytes_are_an_npz_of_pictures_or_named_in_an_error(folder, data):
    path = folder / "a.npz"
    path.write_bytes(data)
    with read_safely():
        assert fitted(read_arrays(path, ("images",)), (4, 4, 3)).shape[1:] == (4, 4, 3)


@settings(max_examples=8 * settings().max_examples)
@given(st.text(max_size=20) | st.text("~/*?[]\0.a\n", max_size=20))
def test_any_text_names_files_or_is_named_in_an_error(folder, monkeypatch, name):
    assume(not name.startswith("/") and ".." not in name)  # not to walk through the machine
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    for find in (find_images, find_files):
        with read_safely():
            find(name)


# Checkpoints.


@pytest.fixture(scope="module")
def native(folder):
    path = folder / "model.safetensors"
    noise = {"kind": "linear", "num_train_steps": 1000}
    save(path, random_network(UNet, SMALL), image_size=16, noise=noise)
    return path.read_bytes()


def parts(safetensors):
    """The header as JSON, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", safetensors[:8])
    return json.loads(safetensors[8 : 8 + length]), safetensors[8 + length :]


def joined(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@settings(few, max_examples=few.max_examples // 2)
@given(data=st.data())
def test_any_bytes_are_a_native_checkpoint_or_named_in_an_error(folder, native, data):
    path = folder / "a.safetensors"
    header, body = native[:4000], native[4000:]
    path.write_bytes(data.draw(damaged(st.just(header))) + body)
    with read_safely():
        load(path)


@few
@given(data=st.data())
def test_any_header_describes_a_network_or_is_refused(folder, native, data):
    path = folder / "a.safetensors"
    header, body = parts(native)
    about = data.draw(altered(json.loads(header["__metadata__"]["repaint_jax"])))
    header["__metadata__"]["repaint_jax"] = json.dumps(about)
    path.write_bytes(joined(header, body))
    with read_safely():
        assert isinstance(load_about(path), dict)
        load(path)


STATE = dict_of(
    {
        "model": dict_of(
            {
                "a": tensor("FloatStorage", "0", 6, (2, 3), (3, 1)),
                "b": tensor("HalfStorage", "1", 4, (4,), (1,)),
            }
        ),
        "step": integer(3),
    }
)
STORAGES = {"0": np.arange(6, dtype=np.float32).tobytes(), "1": bytes(8)}


@settings(max_examples=20 * settings().max_examples)
@given(damaged(st.just(STATE)))
def test_any_pickle_is_a_state_dict_or_refused(folder, pickle):
    path = write_zip(folder / "a.pt", pickle, STORAGES)
    with read_safely():
        arrays = read_torch_file(path)
        assert sum(array.nbytes for array in arrays.values()) < 10 * path.stat().st_size


@settings(max_examples=4 * settings().max_examples)
@given(data=st.data())
def test_any_bytes_are_a_torch_file_or_named_in_an_error(folder, data):
    whole = write_zip(folder / "whole.pt", STATE, STORAGES).read_bytes()
    path = folder / "a.pt"
    path.write_bytes(data.draw(damaged(st.just(whole))))
    with read_safely():
        read_torch_file(path)


@functools.cache
def golden_arrays(name):
    return read_torch_file(checkpoint(name))


@few
@given(st.sampled_from(["adm_tiny", "adm_plain_noshift", "classifier_tiny"]), st.data())
def test_any_names_and_shapes_are_a_network_or_refused(folder, name, data):
    arrays = dict(golden_arrays(name))
    for _ in range(data.draw(st.integers(1, 4))):
        chosen = data.draw(st.sampled_from(sorted(arrays)))
        array = arrays.pop(chosen)
        match data.draw(st.sampled_from(["drop", "reshape", "rename", "renumber"])):
            case "reshape":
                shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
                arrays[chosen] = np.zeros(shape, np.float32)
            case "rename":
                arrays[data.draw(st.text(max_size=5)) + chosen] = array
            case "renumber":
                number = str(data.draw(st.sampled_from([0, 1, 7, 10**9, 10**30])))
                arrays[".".join(number if p.isdigit() else p for p in chosen.split("."))] = array
    path = write_state_dict(folder / "a.pt", arrays)
    for load_any in (load_guided_diffusion, load_guided_diffusion_classifier):
        with read_safely():
            load_any(path, num_head_channels=16)


@few
@given(data=st.data())
def test_any_settings_of_diffusers_are_a_network_and_a_schedule_or_refused(folder, data):
    copied = folder / "diffusers"
    shutil.copytree(GOLDEN / "diffusers_tiny", copied, dirs_exist_ok=True)
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        if data.draw(st.booleans()):
            whole = (copied / file).read_text()
            (copied / file).write_text(json.dumps(data.draw(altered(json.loads(whole)))))
    with read_safely():
        load_diffusers(copied)


# Configurations.


class Sampling(Exception):
    """A run has come as far as to the sampling."""


@few
@given(data=st.data())
def test_any_configuration_is_sampled_or_refused_before_anything_is_written(
    folder, tiny, data, monkeypatch
):
    def sample(*args, **options):
        raise Sampling

    monkeypatch.setattr(Pipeline, "batches", sample)
    monkeypatch.setattr("repaint_jax.checkpoints.native.load", functools.cache(load))
    config = load_config()
    config.model.path = str(tiny)
    changed = data.draw(altered(json.loads(config.to_json_best_effort())))
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    try:
        with read_safely():
            experiment.run_inpainting(ConfigDict(changed), out)
    except Sampling:
        assert (out / "config.json").is_file()
    else:
        assert not out.exists()
