"""Pictures are found by what Pillow reads, and what is left out is said."""

import itertools
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from repaint_jax.errors import ImageError
from repaint_jax.pictures.datasets import find_files
from repaint_jax.pictures.finding import find_images, natural_order, picture_suffixes
from repaint_jax.pictures.images import load_image
from repaint_jax.pictures.pairing import find_masks, pair_masks, without_masks
from repaint_jax.runtime.files import expanded, in_text


def one_line(error):
    """The message, after checking that it is one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_folder_gives_its_pictures_in_natural_order_and_tells_what_it_leaves_out(tmp_path):
    for name in ("10.png", "2.PNG", "1.jpg", ".hidden.png", ".DS_Store", "notes.txt", "b.heix"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.warns(UserWarning, match=r": left out 2 of 5 files, .*: b\.heix, notes\.txt$"):
        names = [path.name for path in find_images(tmp_path)]
    assert names == ["1.jpg", "2.PNG", "10.png"]
    assert [path.name for path in find_images(f"{tmp_path}/*.p*")] == ["10.png"]
    assert find_images(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize(
    "name", ["a.jpg", "b.jfif", "c.jpe", "d.avif", "e.tga", "f.jp2", "g.WEBP", "h.pbm", "i.psd"]
)
def test_what_pillow_reads_is_found_in_folders_and_collections(tmp_path, name):
    path = tmp_path / name
    if path.suffix.lower() not in picture_suffixes():
        pytest.skip("this Pillow lacks the codec")
    kind = Image.registered_extensions()[path.suffix.lower()]
    if kind == "PSD":  # which Pillow does not write
        path.touch()
    else:
        Image.new("1" if kind == "PPM" else "RGB", (16, 16)).save(path, kind)
        assert load_image(path).shape == (16, 16, 3)
    assert find_images(tmp_path) == find_files(str(tmp_path)) == [path]


@pytest.mark.parametrize("suffix", [".eps", ".wmf", ".h5", ".mpg", ".pdf", ".npy"])
def test_what_pillow_only_knows_by_name_is_no_picture(suffix):
    assert suffix not in picture_suffixes()


def test_a_file_name_with_brackets_is_no_pattern(tmp_path):
    (tmp_path / "a[1].png").touch()
    assert find_images(tmp_path / "a[1].png") == [tmp_path / "a[1].png"]


def test_finding_nothing_is_an_error(tmp_path):
    with pytest.raises(ImageError, match="nothing is there: check the path"):
        find_images(tmp_path / "none")
    with pytest.raises(ImageError, match="nothing is there"):
        find_images(f"{tmp_path}/*.png")
    with pytest.raises(ImageError, match="none of the 0 files there is a picture"):
        find_images(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"none of the 1 files there is a picture.*a\.png"):
        find_images(f"{tmp_path}/*")


def test_home_and_variables_are_expanded_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FACES", "faces")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "a.png").touch()
    for name in ("~/faces", "$HOME/faces", "${HOME}/$FACES", f"{tmp_path}/$FACES"):
        assert expanded(name) == tmp_path / "faces"
        assert find_images(name) == find_files(name) == [tmp_path / "faces" / "a.png"]
    (tmp_path / "$FACES").mkdir()
    assert expanded(f"{tmp_path}/$FACES") == tmp_path / "$FACES"
    assert str(expanded("$NOWHERE/~")) == "$NOWHERE/~"


def test_names_are_shown_in_one_line_of_text():
    name = "a\nb\t<é>" + b"\xe9".decode("utf-8", "surrogateescape")
    assert in_text(name) == "a\\nb\\t<é>\\xe9"


# Pairing.


def paths(tmp_path, *names):
    return [tmp_path / name for name in names]


def paired(tmp_path, images, masks):
    """The masks' names."""
    return [m.name for m in pair_masks(paths(tmp_path, *images), paths(tmp_path / "m", *masks))]


def test_masks_are_paired_by_name_whatever_their_order(tmp_path):
    images = ("a.jpg", "b_mask.png", "c.png")
    masks = ("c_mask003.png", "b_mask_mask.png", "a.png", "unused.png")
    assert paired(tmp_path, images, masks) == ["a.png", "b_mask_mask.png", "c_mask003.png"]


def test_an_exact_name_goes_before_a_stripped_one(tmp_path):
    names = ("helmet.png", "gas_mask.png")
    assert paired(tmp_path, names, names) == list(names)
    assert paired(tmp_path, ["a.png"], ["a_mask.png", "a.bmp"]) == ["a.bmp"]
    assert paired(tmp_path, ["a.png", "a.jpg"], ["a.jpg", "a.png"]) == ["a.png", "a.jpg"]
    # Whose mask gas_mask.png is, nobody can tell.
    with pytest.raises(ImageError, match=r"gas\.png: no mask of that name"):
        paired(tmp_path, ["gas.png", "gas_mask.png"], ["gas_mask.png"])


@pytest.mark.parametrize(
    "name",
    ["a_mask.png", "mask_a.png", "a_mask001.png", "a-mask.jpg", "A.mask.png", "a_Mask_1.png"],
)
def test_every_common_layout_pairs(tmp_path, name):
    image = "A.png" if name[0] == "A" else "a.png"
    assert paired(tmp_path, [image, "b.png"], ["b_mask.png", name]) == [name, "b_mask.png"]


def test_masks_may_lie_beside_their_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "a_mask001.png", "b.png", "mask_b.png", "gas_mask.png", "other.png"):
        (tmp_path / name).touch()
    for folder in (str(tmp_path), "."):
        images = without_masks(find_images(tmp_path), folder)
        assert [image.name for image in images] == ["a.png", "b.png", "gas_mask.png", "other.png"]
        # What has no mask is its own: it may have been erased.
        assert [mask.name for mask in find_masks(images, folder)] == [
            "a_mask001.png", "mask_b.png", "gas_mask.png", "other.png",
        ]  # fmt: skip
    some = without_masks(find_images(tmp_path), str(tmp_path / "other.png"))
    assert [image.name for image in some][-1] == "mask_b.png"
    alone = [tmp_path / "other.png"]
    assert without_masks(alone, str(tmp_path / "other.png")) == alone


def test_a_letter_pairs_however_it_is_written(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != apart
    assert paired(tmp_path, [f"{composed}.png"], [f"{apart}.png"]) == [f"{apart}.png"]
    assert paired(tmp_path, [f"{apart}.png"], [f"{composed}_mask.png"]) == [f"{composed}_mask.png"]
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert paired(tmp_path, [f"{latin}.png"], [f"{latin}.bmp"]) == [f"{latin}.bmp"]


def test_one_file_serves_all_but_a_folder_with_one_mask_does_not(tmp_path):
    images = paths(tmp_path, "a.png", "b.png")
    (tmp_path / "masks").mkdir()
    mask = tmp_path / "masks" / "a.png"
    mask.touch()
    assert find_masks(images, mask) == [mask, mask]
    for place in (tmp_path / "masks", f"{tmp_path}/masks/*.png"):
        with pytest.raises(ImageError, match=r"b\.png: no mask of that name among 1 masks for 2"):
            find_masks(images, place)
        assert find_masks(images[:1], place) == [mask]


def test_a_picture_without_mask_is_named(tmp_path):
    images = [f"{name}.png" for name in "abcdefg"]
    with pytest.raises(ImageError, match=r"c.png, d.png, e.png and 2 more: no mask") as error:
        paired(tmp_path, images, ["a.png", "b_mask.png"])
    assert "among 2 masks for 7 pictures" in one_line(error)


@pytest.mark.parametrize(
    "masks", [("a_mask.png", "a_mask001.png"), ("mask_a.png", "a_mask.png"), ("a.jpg", "a.bmp")]
)
def test_two_candidates_are_both_named(tmp_path, masks):
    with pytest.raises(ImageError, match=rf"needs one mask, but .*{masks[0]} and .*{masks[1]} are"):
        paired(tmp_path, ["a.png"], masks)


def test_ten_thousand_masks_are_paired_at_once(tmp_path):
    images = [f"{i}.png" for i in range(10_000)]
    masks = [f"{i}_mask001.png" for i in range(10_000)]
    assert paired(tmp_path, images, masks) == masks


def test_the_order_is_that_of_numbers_and_the_same_on_every_machine():
    names = ["01.png", "1.png", "2.png", "10.png", "A.png", "a.png"]
    for listed in itertools.permutations(map(Path, names)):
        assert [path.name for path in sorted(listed, key=natural_order)] == names
