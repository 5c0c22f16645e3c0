import os
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from torch_zip import call, dict_of, tensor, text, write_state_dict, write_zip

from repaint_jax.checkpoints import CheckpointError
from repaint_jax.checkpoints.torch_file import read_torch_file

SIX = np.arange(6, dtype=np.float32)


def test_every_dtype_and_shape_comes_back_bit_for_bit(tmp_path):
    arrays = {
        "float32": SIX.reshape(2, 3),
        "float16": (SIX / 3).astype(np.float16),
        "bfloat16": (SIX / 3).astype(ml_dtypes.bfloat16),
        "float64": np.array([np.pi]),
        "int64": np.arange(3),
        "int32": np.arange(3, dtype=np.int32),
        "bool": np.array([True, False]),
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
    }
    read = read_torch_file(write_state_dict(tmp_path / "all.pt", arrays))
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_reads_what_torch_wrote_without_taking_memory(golden):
    read = read_torch_file(golden / "torch_saved.pt")
    weight = read["input_blocks.0.0.weight"]
    assert weight.shape == (32, 3, 3, 3)
    assert isinstance(weight.base, np.memmap)
    assert not weight.flags.writeable


def test_views_of_one_storage_share_it(tmp_path):
    views = {
        "whole": tensor("FloatStorage", "0", 6, (2, 3), (3, 1)),
        "transposed": tensor("FloatStorage", "0", 6, (3, 2), (1, 3)),
        "last_column": tensor("FloatStorage", "0", 6, (2,), (3,), offset=2),
        "repeated": tensor("FloatStorage", "0", 6, (2, 2), (0, 1), offset=4),
    }
    path = write_zip(tmp_path / "views.pt", dict_of(views), {"0": SIX.tobytes()})
    read = read_torch_file(path)
    whole = SIX.reshape(2, 3)
    np.testing.assert_array_equal(read["transposed"], whole.T)
    np.testing.assert_array_equal(read["last_column"], whole[:, 2])
    np.testing.assert_array_equal(read["repeated"], [[4, 5], [4, 5]])
    assert np.shares_memory(read["whole"], read["last_column"])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_big_endian_files_are_swapped(tmp_path, dtype):
    kind = {"float32": "FloatStorage", "float16": "HalfStorage"}[dtype]
    big = SIX.astype(np.dtype(dtype).newbyteorder(">"))
    path = write_zip(
        tmp_path / "big.pt",
        dict_of({"x": tensor(kind, "0", 6, (6,), (1,))}),
        {"0": big.tobytes()},
        byteorder="big",
    )
    np.testing.assert_array_equal(read_torch_file(path)["x"], SIX.astype(dtype))


def test_parameters_compressed_entries_and_absent_byteorder_are_read(tmp_path):
    parameter = call(
        "torch._utils._rebuild_parameter",
        tensor("FloatStorage", "0", 6, (6,), (1,)),
        b"\x88",
        call("collections.OrderedDict"),
    )
    path = write_zip(
        tmp_path / "old.pt",
        dict_of({"x": parameter}),
        {"0": SIX.tobytes()},
        byteorder=None,
        compression=zipfile.ZIP_DEFLATED,
    )
    np.testing.assert_array_equal(read_torch_file(path)["x"], SIX)


def test_tensors_in_nested_dicts_are_named_by_their_paths(tmp_path):
    state = dict_of({"x": tensor("FloatStorage", "0", 6, (6,), (1,)), "updates": b"I7\n"})
    content = dict_of({"model": state, "ema": dict_of({"inner": state}), "step": b"I7\n"})
    read = read_torch_file(write_zip(tmp_path / "nested.pt", content, {"0": SIX.tobytes()}))
    assert list(read) == ["model.x", "ema.inner.x"]
    np.testing.assert_array_equal(read["ema.inner.x"], SIX)


def test_a_dict_that_holds_itself_is_read_once(tmp_path):
    # Stored in the memo as 0, and put into itself.
    content = b"}q\x00(" + text("x") + tensor("FloatStorage", "0", 6, (6,), (1,))
    content += text("again") + b"h\x00u"
    path = write_zip(tmp_path / "ring.pt", content, {"0": SIX.tobytes()})
    assert list(read_torch_file(path)) == ["x"]


@pytest.mark.parametrize("value", [np.float32(1.5), np.arange(3), np.dtype("int8"), {3, 4}, Path()])
def test_what_is_no_tensor_is_left_out_of_a_state_dict(tmp_path, value):
    """As NumPy's scalars, or the settings of a training."""
    x = tensor("FloatStorage", "0", 6, (6,), (1,))
    other = pickle.dumps(value, protocol=2)[2:-1]
    path = write_zip(tmp_path / "more.pt", dict_of({"n": other, "x": x}), {"0": SIX.tobytes()})
    read = read_torch_file(path)
    assert list(read) == ["x"]
    np.testing.assert_array_equal(read["x"], SIX)


class Malice:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_code_in_the_pickle_is_named_refused_and_not_run(tmp_path):
    touched = tmp_path / "touched"
    payload = pickle.dumps({"x": Malice(f"touch {touched}")}, protocol=2)
    path = write_zip(tmp_path / "evil.pt", payload[2:-1], {})
    with pytest.raises(CheckpointError, match=r"contains code \(\w+\.system\) and is not loaded"):
        read_torch_file(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    "function",
    ["builtins.eval", "numpy.load", "torch._utils._rebuild_tensor", "collections.Counter"],
)
def test_only_the_functions_that_rebuild_tensors_exist(tmp_path, function):
    path = write_zip(tmp_path / "evil.pt", dict_of({"x": call(function, text("1 + 1"))}), {})
    with pytest.raises(CheckpointError, match=f"contains code .{function}"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "length"),
    [((7,), (1,), 0, 6), ((2,), (1,), 5, 6), ((2,), (-1,), 0, 6), ((2,), (1,), 0, 5)],
)
def test_a_tensor_that_leaves_its_storage_is_refused(tmp_path, shape, strides, offset, length):
    content = dict_of({"x": tensor("FloatStorage", "0", length, shape, strides, offset)})
    path = write_zip(tmp_path / "out.pt", content, {"0": SIX.tobytes()})
    with pytest.raises(CheckpointError, match=r"out\.pt is truncated or damaged"):
        read_torch_file(path)


def test_a_tensor_larger_than_its_storage_is_refused_for_the_memory_it_would_take(tmp_path):
    content = dict_of({"x": tensor("FloatStorage", "0", 6, (10**6, 10**6), (0, 0))})
    path = write_zip(tmp_path / "huge.pt", content, {"0": SIX.tobytes()})
    with pytest.raises(CheckpointError, match=r"\(1000000, 1000000\) is larger than its storage"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"r\xff\xff\xff\x7f", "memo index 2147483647"),
        (b"\x96" + b"\xff" * 7 + b"\x7f", "expected 9223372036854775807 bytes in a bytearray8"),
    ],
)
def test_a_pickle_cannot_ask_for_more_memory_than_it_is_large(tmp_path, opcodes, message):
    path = write_zip(tmp_path / "greedy.pt", b"}" + opcodes, {})
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(path)


def test_a_storage_is_named_by_a_string(tmp_path):
    # Nested 100 deep, each level twice the one before: its hash would take for ever.
    name = b"(t" + b"2\x86" * 100
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + name + text("cpu") + b"I1\ntQ"
    with pytest.raises(CheckpointError, match="a storage without a name"):
        read_torch_file(write_zip(tmp_path / "endless.pt", storage, {}))


def test_a_file_that_unpacks_to_much_more_than_its_size_is_not_unpacked(tmp_path):
    content = dict_of({"x": tensor("FloatStorage", "0", 10**6, (10**6,), (1,))})
    path = write_zip(
        tmp_path / "bomb.pt", content, {"0": bytes(4 * 10**6)}, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(CheckpointError, match="it would unpack to 4000"):
        read_torch_file(path)


def test_attributes_of_a_state_dict_are_left_out(tmp_path):
    # torch gives it _metadata; another attribute could stand in the way of its own methods.
    content = call("collections.OrderedDict") + dict_of({"items": b"I1\n"}) + b"b"
    filled = content + b"(" + text("x") + tensor("FloatStorage", "0", 6, (6,), (1,)) + b"u"
    path = write_zip(tmp_path / "attributes.pt", filled, {"0": SIX.tobytes()})
    np.testing.assert_array_equal(read_torch_file(path)["x"], SIX)


def test_truncated_and_damaged_files_are_told_apart_from_good_ones(tmp_path, golden):
    whole = (golden / "torch_saved.pt").read_bytes()
    path = tmp_path / "broken.pt"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"broken\.pt is truncated or damaged .* re-save"):
        read_torch_file(path)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(CheckpointError, match="checksum of torch_saved/data/"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "torch's legacy format"),
        (b"<!DOCTYPE html>", "not a torch file.*DOCTYPE"),
        (b"", "not a torch file"),
    ],
)
def test_other_formats_are_named(tmp_path, content, message):
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{message}.*re-save it with torch.save"):
        read_torch_file(path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(CheckpointError, match="a zip file but not torch's"):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"I3\n", "holds a int without"), (dict_of({}), "holds a dict without tensors")],
)
def test_a_file_without_tensors_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(write_zip(tmp_path / "empty.pt", content, {}))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        read_torch_file(tmp_path / "absent.pt")


@pytest.mark.parametrize("old", [False, True])
def test_what_is_no_state_dict_can_be_saved_as_the_error_says(tmp_path, old):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    path = tmp_path / "model.pt"
    torch.save({"model": model, "epoch": 3}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(CheckpointError, match=r"torch.save\(model.state_dict\(\), path\)"):
        read_torch_file(path)
    torch.save(model.state_dict(), path)  # to the letter
    weights = read_torch_file(path)
    assert {*weights} == {"0.weight", "0.bias", "1.weight", "1.bias"}
    np.testing.assert_array_equal(weights["0.weight"], model[0].weight.detach().numpy())
