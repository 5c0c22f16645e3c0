"""Collections of pictures are read where their meaning is plain; every advice works as told."""

import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from repaint_jax.errors import DataError, ImageError
from repaint_jax.pictures.datasets import (
    find_files,
    find_paths,
    fitted,
    holds_arrays,
    read_arrays,
    read_file,
)

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 16, 20, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.npz", "a.NPZ", "a.npy", "a.NPY"])
def test_arrays_are_read_from_either_kind_of_file_whatever_its_case(tmp_path, name):
    path = tmp_path / name
    with path.open("wb") as file:
        (np.savez if name.lower().endswith("npz") else np.save)(file, COLOUR)
    assert holds_arrays(find_paths(str(path)))
    np.testing.assert_array_equal(read_arrays(path, ("images",)), COLOUR)


def test_pickled_objects_are_not_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not an npz or npy"):
        read_arrays(tmp_path / "a.npy", ("images",))


# What an array of that shape is told to be saved as, and what it then means.
AMBIGUOUS = {
    "one in colour": ((64, 64, 3), ((64, 64, 3, 1), (1, 64, 64, 3))),
    "one in grey": ((64, 64, 1), ((64, 64, 1, 1), (1, 64, 64, 1))),
    "one, channels first": ((3, 64, 48), ((3, 64, 48, 1), (1, 64, 48, 3))),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_a_shape_that_can_mean_two_things_is_refused_and_both_ways_out_lead_out(tmp_path, kind):
    shape, meant = AMBIGUOUS[kind]
    x, path = RNG.integers(0, 256, shape, np.uint8), tmp_path / "a.npz"
    np.savez(path, images=x)
    with pytest.raises(DataError, match="grey pictures or a single one: save") as error:
        read_arrays(path, ("images",))
    advised = re.search(r"save (.+) for grey ones, (.+) for a single one", str(error.value))
    for code, expected in zip(advised.groups(), meant, strict=True):
        np.savez(path, images=eval(code, {"x": x}))
        assert read_arrays(path, ("images",)).shape == expected


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),  # channels first
        (np.concatenate([COLOUR, COLOUR[..., :1]], -1), COLOUR),  # with transparency
        (COLOUR / 255, COLOUR),
        ((COLOUR / 255).astype(np.float32), COLOUR),
    ],
)
def test_the_advice_on_arrays_of_another_kind_works_to_the_letter(tmp_path, x, expected):
    path = tmp_path / "a.npz"
    np.savez(path, images=x)
    with pytest.raises(DataError) as error:
        read_arrays(path, ("images",))
    advice = r"save(?: it as)? (.+?)(?: if 1 is white|, if those are RGB|$)"
    code = re.search(advice, str(error.value))
    np.savez(path, images=eval(code[1], {"x": x}))
    np.testing.assert_array_equal(read_arrays(path, ("images",)), expected)


def test_the_advice_on_names_of_arrays_works(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, faces=COLOUR, labels=np.arange(5))
    with pytest.raises(DataError, match="holds faces, labels; call the pictures 'images'"):
        read_arrays(path, ("images", "x"))
    np.savez(path, images=COLOUR, labels=np.arange(5))
    assert read_arrays(path, ("images", "x")).shape == COLOUR.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_are_brought_to_the_shape_asked_for(channels):
    assert fitted(COLOUR, (8, 8, channels)).shape == (5, 8, 8, channels)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            with archive.open(name, "w") as file:
                Image.new("RGB", (16, 16)).save(file, "PNG")


def test_what_a_zip_holds_besides_pictures_is_told(tmp_path):
    zipped(tmp_path / "a.zip", "a.png", "in/b.PNG", "in/c.heix", "__MACOSX/._a.png", ".x.png")
    with pytest.warns(UserWarning, match=r"a\.zip: left out 1 of 3 files, .*: c\.heix"):
        assert [file.name for file in find_files(str(tmp_path / "a.zip"))] == ["a.png", "in/b.PNG"]


def test_the_advice_on_a_zip_without_pictures_works(tmp_path):
    zipped(tmp_path / "a.zip", "a.heix")
    with pytest.raises(DataError, match="convert them to PNG and zip them again"):
        find_files(str(tmp_path / "a.zip"))
    zipped(tmp_path / "a.zip", "a.png")
    (file,) = find_files(str(tmp_path / "a.zip"))
    assert read_file(file, (8, 8, 3)).shape == (8, 8, 3)


def test_a_folder_of_zips_stands_for_them(tmp_path):
    zipped(tmp_path / "a.zip", "1.png")
    zipped(tmp_path / "b.ZIP", "2.png")
    assert [file.name for file in find_files(str(tmp_path))] == ["1.png", "2.png"]


def test_the_advice_on_files_without_a_pictures_name_works(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.heix", "PNG")
    with pytest.raises(ImageError, match="name a file itself, or convert them to PNG"):
        find_files(str(tmp_path))
    assert find_files(str(tmp_path / "a.heix")) == [tmp_path / "a.heix"]
