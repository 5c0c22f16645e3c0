"""Pictures from everything that holds pictures, and what is wrong with it."""

import io
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from repaint_jax.errors import DataError, ImageError
from repaint_jax.pictures.images import load_image
from repaint_jax.training.data import Stream, load_data

SHAPE = (8, 8, 3)


def fill(folder, count=10):
    """Pictures of several sizes and kinds, one in a subfolder; picture i is mostly grey i."""
    (folder / "sub").mkdir(parents=True)
    for i in range(count):
        size = (8, 8) if i % 2 else (20, 12)
        path = folder / ("sub" if i == 3 else "") / f"{i}.png"
        Image.new("RGB" if i % 3 else "L", size, (i,) * 3 if i % 3 else i).save(path)
    return folder


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "my [pictures]")


def greys(pictures):
    return sorted(pictures[:, 0, 0, 0].tolist())


def test_a_folder_is_read_with_its_subfolders_and_validation_is_held_out(folder):
    (folder / "notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match="left out 1 of 11 files, .*: notes.txt"):
        train, validation = load_data(str(folder), SHAPE, num_validation=3)
    (folder / "notes.txt").unlink()
    assert train.shape == (7, *SHAPE)
    assert train.dtype == np.uint8
    assert len(validation) == 3
    assert greys(np.concatenate([train, validation])) == list(range(10))
    everything, none = load_data(str(folder), SHAPE, num_validation=0)
    assert len(everything) == 10
    assert none.shape == (0, *SHAPE)


def test_a_zip_and_a_pattern_of_zips_are_read_as_folders_are(folder, tmp_path):
    (tmp_path / "zips").mkdir()
    shutil.make_archive(str(tmp_path / "zips" / "one"), "zip", folder)
    from_folder = load_data(str(folder), SHAPE, num_validation=0).train
    one = load_data(str(tmp_path / "zips" / "one.zip"), SHAPE, num_validation=0).train
    assert greys(one) == greys(from_folder)
    shutil.copy(tmp_path / "zips" / "one.zip", tmp_path / "zips" / "two.zip")
    both = load_data(str(tmp_path / "zips" / "*.zip"), SHAPE, num_validation=0).train
    assert greys(both) == sorted(greys(one) * 2)


@pytest.mark.parametrize("name", ["x_train", "images", "arr_0", "whatever"])
def test_an_npz_is_read_and_resized_if_need_be(tmp_path, name):
    path = tmp_path / "data.npz"
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)
    np.savez(path, **{name: pictures})
    train, _ = load_data(str(path), (8, 8, 1), num_validation=0)
    assert np.array_equal(train[..., 0], pictures)
    train, _ = load_data(str(path), (4, 4, 3), num_validation=2)
    assert train.shape == (4, 4, 4, 3)
    assert np.array_equal(train[..., 0], train[..., 1])


def test_broken_pictures_are_told_skipped_and_counted(folder):
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:60])
    (folder / "7.png").write_text("no picture")
    with pytest.warns(UserWarning, match=r"skipped: 2 of 10 .*4\.png: .*; .*7\.png: not a pict"):
        train, _ = load_data(str(folder), SHAPE, num_validation=0)
    assert greys(train) == [0, 1, 2, 3, 5, 6, 8, 9]


def test_a_broken_picture_in_a_zip_is_called_by_its_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("bad.png", b"no picture")
    with pytest.raises(DataError, match=r"1 of 1 pictures cannot .*data\.zip: bad\.png: not a"):
        load_data(str(tmp_path / "data.zip"), SHAPE, num_validation=0)


def archived(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)


def test_what_cannot_be_used_is_told_in_one_line(folder, tmp_path):
    def refused(name, message, error=DataError, num_validation=0):
        with pytest.raises(error, match=message) as raised:
            load_data(str(tmp_path / name), SHAPE, num_validation=num_validation)
        assert "\n" not in str(raised.value)

    refused("nowhere", "nowhere: expected a picture, a folder", ImageError)
    (tmp_path / "empty").mkdir()
    refused("empty", "none of the 0|nothing is there", ImageError)
    refused(folder.name, "10 pictures are too few to train on and to hold out 10", DataError, 10)
    (tmp_path / "text.zip").write_text("no zip")
    refused("text.zip", "text.zip: not a zip")
    archived(tmp_path / "none.zip", notes_txt="no picture")
    refused("none.zip", "none.zip: none of the 1 files in it is a picture")
    (tmp_path / "text.npz").write_text("no npz")
    refused("text.npz", "text.npz: not an npz")
    np.savez(tmp_path / "float.npz", images=np.zeros((3, 8, 8, 3), np.float32))
    refused("float.npz", r"images is float32\[3, 8, 8, 3\]; expected uint8")
    np.savez(tmp_path / "wide.npz", images=np.zeros((3, 8, 8, 7), np.uint8))
    refused("wide.npz", "of 7 channels; expected 1 or 3")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    refused("two.npz", "two.npz: holds a, b; call the pictures 'images'")
    np.savez(tmp_path / "nothing.npz")
    refused("nothing.npz", "nothing.npz: not an npz")
    np.save(tmp_path / "one.npy", np.zeros((3, 8, 8), object))
    refused("one.npy", "one.npy: not an npz or npy, or damaged")
    archived(tmp_path / "text.npz", images_npy="no array")
    refused("text.npz", r"text.npz: images is \|S8\[\]; expected uint8")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(IsADirectoryError):
        load_data(str(tmp_path / "folder.npz"), SHAPE, num_validation=0)


def test_a_stream_draws_the_same_pictures_wherever_it_starts(folder):
    pytest.importorskip("grain")
    train, validation = load_data(str(folder), SHAPE, num_validation=2, in_memory=False, seed=3)
    assert isinstance(train, Stream)
    assert len(validation) == 2
    whole = list(train.batches(0, 5, 4))
    assert [batch.shape for batch in whole] == [(4, *SHAPE)] * 5
    later = list(train.batches(3, 5, 4))
    assert np.array_equal(whole[3:], later)
    drawn = set(np.concatenate(whole)[:, 0, 0, 0].tolist())
    assert drawn <= set(range(10)) - set(validation[:, 0, 0, 0].tolist())
    assert len(drawn) > 4


def test_a_stream_draws_another_for_a_broken_picture(folder):
    for i in range(1, 10):
        path = folder / ("sub" if i == 3 else "") / f"{i}.png"
        path.write_text("no picture")
    train, _ = load_data(str(folder), SHAPE, num_validation=0, in_memory=False)
    with pytest.warns(UserWarning, match="skipped: .*not a picture"):
        drawn = [train.draw(i) for i in range(4)]
    assert all((picture == 0).all() for picture in drawn)
    (folder / "0.png").write_text("no picture")
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(DataError, match="none of 100 pictures drawn from 10 can be read"),
    ):
        train.draw(0)


def test_a_picture_may_be_an_open_file():
    opened = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(opened, format="PNG")
    assert (load_image(opened, size=8) == 9).all()


def test_without_grain_a_stream_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    train, _ = load_data(str(folder), SHAPE, num_validation=0, in_memory=False)
    with pytest.raises(DataError, match=r"needs grain: pip install 'repaint-jax\[training\]'"):
        train.batches(0, 1, 4)


def test_a_picture_damaged_in_its_zip_is_skipped(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.png", b"a marker to be overwritten")
    path.write_bytes(path.read_bytes().replace(b"marker", b"MARKER"))
    with pytest.raises(DataError, match=r"data.zip: bad.png: damaged in the zip"):
        load_data(str(path), SHAPE, num_validation=0)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(6, 1), (8, 99)],  # a flag: encrypted; a compression method that there is not
)
def test_a_zip_that_python_cannot_unpack_is_an_error_of_its_picture(tmp_path, offset, value):
    path = tmp_path / "data.zip"
    archived(path, a_png="no picture")
    whole = bytearray(path.read_bytes())
    for header, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        whole[whole.index(header) + offset + shift] = value
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"data.zip: a.png: damaged in the zip .*, or encrypted"):
        load_data(str(path), SHAPE, num_validation=0)


def test_a_picture_that_would_unpack_to_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "data.zip"
    archived(path, a_png="no picture")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"PK\1\2") + 24
    whole[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(DataError, match=r"a.png: too large to be read safely \(2147483648 bytes\)"):
        load_data(str(path), SHAPE, num_validation=0)


def test_a_folder_is_read_once_though_links_lead_round_in_circles(folder):
    (folder / "again").symlink_to(folder)
    (folder / "sub" / "back").symlink_to(folder)
    assert greys(load_data(str(folder), SHAPE, num_validation=0).train) == list(range(10))
