"""Any file becomes the right bytes, or one line that says what to do."""

import warnings

import numpy as np
import pytest
from PIL import Image

from repaint_jax.pictures.images import (
    ImageError,
    astronaut,
    check_mask,
    find_images,
    image_shape,
    load_image,
    load_mask,
    pair_masks,
    save_image,
    to_float,
    to_uint8,
)

# 32 high, 48 wide, in flat quarters so that JPEG leaves them nearly as they are.
COLOURS = np.array([[[200, 30, 40], [20, 180, 60]], [[30, 40, 220], [250, 250, 250]]], np.uint8)
PICTURE = COLOURS.repeat(16, axis=0).repeat(24, axis=1)
HALF = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8)[None].repeat(8, axis=0)  # left is kept


def write(path, array, mode=None, **options):
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def mask_file(tmp_path, array=HALF, name="mask.png", mode=None, **options):
    return write(tmp_path / name, array, mode, **options)


def one_line(error):
    """The message, after checking that it is one line."""
    message = str(error.value)
    assert "\n" not in message
    return message


# Reading pictures.


def test_a_colour_picture_comes_back_byte_for_byte(tmp_path):
    path = write(tmp_path / "a.png", PICTURE)
    for size in (None, PICTURE.shape[:2]):
        loaded = load_image(path, size=size)
        assert loaded.dtype == np.uint8
        np.testing.assert_array_equal(loaded, PICTURE)


def test_exif_rotation_is_applied(tmp_path):
    # Orientation 6: the file's rows are the scene turned by 90 degrees counterclockwise.
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(PICTURE)
    path = write(tmp_path / "a.jpg", turned, quality=95, subsampling=0, exif=exif)
    assert image_shape(path) == PICTURE.shape[:2]
    # JPEG at quality 95 quantises in steps of a few grey values.
    np.testing.assert_allclose(load_image(path).astype(int), PICTURE, atol=6)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    deep = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    path = write(tmp_path / name, deep)
    expected = np.arange(256).reshape(16, 16, 1)
    np.testing.assert_array_equal(load_image(path, channels=1), expected)
    np.testing.assert_array_equal(load_image(path), expected.repeat(3, axis=2))


def test_big_endian_16_bit_grey_is_read(tmp_path):
    deep = np.array([[0, 257 * 100], [257 * 200, 65535]], ">u2")
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (2, 2), deep.tobytes()).save(path)
    np.testing.assert_array_equal(load_image(path, channels=1)[:, :, 0], [[0, 100], [200, 255]])


def test_32_bit_integers_are_read_as_16_bit_ones(tmp_path):
    path = write(tmp_path / "a.tif", np.array([[0, 257], [257 * 128, 65535]], np.int32))
    np.testing.assert_array_equal(load_image(path, channels=1)[:, :, 0], [[0, 1], [128, 255]])


@pytest.mark.parametrize(("white", "peak"), [(1, 1.0), (255, 255.0)])
def test_floats_are_read_in_units_of_1_or_of_255(tmp_path, white, peak):
    values = np.array([[0, 51 / 255], [102 / 255, 1]], np.float32) * white
    assert values.max() == peak
    path = write(tmp_path / "a.tif", values)
    np.testing.assert_array_equal(load_image(path, channels=1)[:, :, 0], [[0, 51], [102, 255]])


@pytest.mark.parametrize("value", [-1.0, 300.0, np.nan])
def test_floats_of_an_unknown_scale_are_refused(tmp_path, value):
    path = write(tmp_path / "a.tif", np.array([[0.5, value]], np.float32))
    with pytest.raises(ImageError, match=r"a.tif: expected float32 values from 0 to .*rescale"):
        load_image(path)


def test_grey_and_1_bit_become_either_number_of_channels(tmp_path):
    for mode in ("L", "1"):
        path = write(tmp_path / "a.png", HALF, mode)
        np.testing.assert_array_equal(load_image(path, channels=1), HALF[:, :, None])
        np.testing.assert_array_equal(load_image(path), HALF[:, :, None].repeat(3, axis=2))


def test_colour_becomes_grey_by_luminance(tmp_path):
    path = write(tmp_path / "a.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
    assert load_image(path, channels=1)[0, 0] == round(0.299 * 255)


def test_transparent_parts_are_laid_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [55, 55, 55, 128]]], np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [155, 155, 155]]]  # 255 - 200 * 128 / 255
    np.testing.assert_allclose(load_image(write(tmp_path / "a.png", rgba)), expected, atol=1)
    la = np.array([[[40, 255], [40, 0]]], np.uint8)
    loaded = load_image(write(tmp_path / "b.png", Image.fromarray(la, "LA")), channels=1)
    np.testing.assert_array_equal(loaded[:, :, 0], [[40, 255]])


def test_palettes_are_resolved_with_and_without_transparency(tmp_path):
    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    np.testing.assert_array_equal(
        load_image(write(tmp_path / "a.png", palette)), [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]
    )
    clear = load_image(write(tmp_path / "b.png", palette, transparency=1))
    np.testing.assert_array_equal(clear, [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])


def test_cmyk_is_converted(tmp_path):
    path = write(tmp_path / "a.jpg", PICTURE, "CMYK", quality=95, subsampling=0)
    with Image.open(path) as file:
        assert file.mode == "CMYK"
    np.testing.assert_allclose(load_image(path).astype(int), PICTURE, atol=8)


def test_an_animation_gives_its_first_frame(tmp_path):
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(
        load_image(tmp_path / "a.gif"), np.full((4, 4, 3), (255, 0, 0), np.uint8)
    )


def test_a_picture_is_cropped_centrally_before_it_is_resized(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200
    path = write(tmp_path / "a.png", wide)
    np.testing.assert_array_equal(load_image(path, size=8), wide[:, 8:16])
    np.testing.assert_array_equal(load_image(path, size=(8, 20)), wide[:, 2:22])
    ramp = np.tile(np.arange(24, dtype=np.uint8) * 10, (8, 1))
    shrunk = load_image(write(path, ramp), size=4, channels=1)[0, :, 0]
    # Columns 8 to 15 stay, two by two; a symmetric filter leaves a ramp a ramp.
    np.testing.assert_allclose(shrunk, [85, 105, 125, 145], atol=0.5)


def test_shrinking_averages_and_does_not_alias(tmp_path):
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    path = write(tmp_path / "a.png", checks.astype(np.uint8))
    shrunk = load_image(path, size=8, channels=1)
    # Away from the border, where the filter is cut, only rounding remains.
    np.testing.assert_allclose(shrunk[2:-2, 2:-2].astype(int), 127.5, atol=2)


def test_enlarging_a_flat_picture_keeps_it_flat(tmp_path):
    path = write(tmp_path / "a.png", np.full((3, 5, 3), 77, np.uint8))
    np.testing.assert_array_equal(load_image(path, size=(9, 9)), np.full((9, 9, 3), 77))


# Errors in reading.


def test_errors_name_the_file_and_say_what_to_do(tmp_path):
    (tmp_path / "note.png").write_text("not a picture\n")
    (tmp_path / "empty.png").touch()
    whole = write(tmp_path / "whole.png", astronaut()).read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    expected = {
        "none.png": "there is no such file: check the path",
        "note.png": "not a picture of a known format: convert it",
        "empty.png": "not a picture of a known format",
        "short.png": "cannot be decoded .* export it anew",
        ".": "expected a picture to read, got: Is a directory",
    }
    for name, message in expected.items():
        path = tmp_path / name
        for load in (load_image, image_shape, lambda p: load_mask(p, (8, 8))):
            with pytest.raises(ImageError, match=message) as error:
                load(path)
            assert one_line(error).startswith(f"{path}: ")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", PICTURE)
    for limit in (1000, 10):  # Pillow warns above its limit, and raises above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ImageError, match=r"too large to be read safely .* shrink it first"):
            load_image(path)


def test_a_picture_without_pixels_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.png", PICTURE)
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", lambda _: Image.new("RGB", (0, 5)))
    with pytest.raises(ImageError, match="the picture is empty"):
        load_image(path)


def test_an_odd_number_of_channels_or_size_is_refused(tmp_path):
    path = write(tmp_path / "a.png", PICTURE)
    with pytest.raises(ValueError, match="channels must be 1"):
        load_image(path, channels=4)
    with pytest.raises(ValueError, match="at least one pixel, got 0x8"):
        load_image(path, size=(0, 8))


# Masks.


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "LA", "RGBA"])
def test_white_is_known_in_every_mode(tmp_path, mode):
    path = mask_file(tmp_path, mode=mode)
    with Image.open(path) as file:
        assert file.mode == mode
    known = load_mask(path, (8, 8))
    assert known.dtype == bool
    np.testing.assert_array_equal(known, HALF == 255)
    np.testing.assert_array_equal(load_mask(path, (8, 8), invert=True), HALF == 0)


def test_a_16_bit_mask_is_read(tmp_path):
    path = mask_file(tmp_path, HALF.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load_mask(path, (8, 8)), HALF == 255)


def test_grey_is_cut_at_one_half(tmp_path):
    greys = np.array([[0, 1, 127, 128, 254, 255]], np.uint8).repeat(6, axis=0)
    known = load_mask(mask_file(tmp_path, greys), (6, 6))
    np.testing.assert_array_equal(known[0], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("colour", [0, 255])
def test_what_is_erased_in_a_picture_is_the_hole(tmp_path, colour):
    rgba = np.full((8, 8, 4), colour, np.uint8)
    rgba[..., 3] = HALF
    np.testing.assert_array_equal(load_mask(mask_file(tmp_path, rgba), (8, 8)), HALF == 255)


def test_a_mask_is_resized_without_blending(tmp_path):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2, (8, 8)).astype(np.uint8) * 255
    path = mask_file(tmp_path, coarse)
    expected = (coarse == 255).repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(load_mask(path, (24, 24)), expected)
    fine = mask_file(tmp_path, expected.astype(np.uint8) * 255, "fine.png")
    np.testing.assert_array_equal(load_mask(fine, (8, 8)), coarse == 255)


def test_a_size_whose_aspect_ratio_is_not_exact_in_floats_is_fitted(tmp_path):
    # In floats 13 * (229 / 13) is more than 229.
    for height, width, shape in ((229, 269, (13, 10)), (269, 229, (10, 13))):
        path = write(tmp_path / "a.png", np.full((height, width), 90, np.uint8))
        assert (
            load_image(path, size=shape, channels=1).tolist() == np.full((*shape, 1), 90).tolist()
        )


def test_a_mask_is_cropped_with_its_picture(tmp_path):
    rng = np.random.default_rng(0)
    kept = rng.random((16, 40)) < 0.7
    picture = np.where(kept[:, :, None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    picture_path = write(tmp_path / "a.png", picture)
    path = mask_file(tmp_path, kept.astype(np.uint8) * 255)
    for size in (16, (16, 20)):
        loaded = load_image(picture_path, size=size)
        known = load_mask(path, loaded.shape[:2], source_shape=image_shape(picture_path))
        np.testing.assert_array_equal(known, loaded[:, :, 0] == 255)


def test_a_mask_of_the_loaded_size_serves_a_cropped_picture(tmp_path):
    known = load_mask(mask_file(tmp_path), (8, 8), source_shape=(16, 40))
    np.testing.assert_array_equal(known, HALF == 255)


def test_a_mask_may_differ_from_its_picture_by_rounding_only(tmp_path):
    # 1000 x 667 shrunk to a width of 256 is 170.75 high.
    for height in (170, 171):
        mask = np.zeros((height, 256), np.uint8)
        mask[:, :128] = 255
        assert load_mask(mask_file(tmp_path, mask), (667, 1000)).mean() == pytest.approx(1 / 2)
        mask = np.zeros((667, 1000), np.uint8)
        mask[:, :500] = 255
        known = load_mask(mask_file(tmp_path, mask), (height, 256))
        assert known.mean() == pytest.approx(1 / 2, abs=1 / 256)
    with pytest.raises(ImageError, match=r"which is 667x1000, but this one is 8x8 .*draw it"):
        load_mask(mask_file(tmp_path), (667, 1000))
    with pytest.raises(ImageError, match="which is 16x40, but this one is 8x12"):
        load_mask(mask_file(tmp_path, np.zeros((8, 12), np.uint8)), (8, 8), source_shape=(16, 40))


@pytest.mark.parametrize("invert", [False, True])
def test_a_mask_without_hole_is_refused(tmp_path, invert):
    path = mask_file(tmp_path, np.full((8, 8), 0 if invert else 255, np.uint8))
    with pytest.raises(ImageError, match=f"no hole.*invert_mask={not invert}") as error:
        load_mask(path, (8, 8), invert=invert)
    assert one_line(error).startswith(str(path))


def test_a_mask_of_zeros_and_ones_warns_that_nothing_is_known(tmp_path):
    with pytest.warns(UserWarning, match=r"mask.png: nothing is known at 8x8.*\(255, not 1\)"):
        known = load_mask(mask_file(tmp_path, HALF // 255), (8, 8))
    assert not known.any()


def test_a_mask_that_looks_inverted_warns(tmp_path):
    hole_in_white = np.zeros((16, 16), np.uint8)
    hole_in_white[4:10, 5:12] = 255
    path = mask_file(tmp_path, hole_in_white)
    with pytest.warns(UserWarning, match=r"use --config.invert_mask=True if white marks the hole"):
        load_mask(path, (16, 16))
    load_mask(path, (16, 16), invert=True)
    path = mask_file(tmp_path, 255 - hole_in_white)
    load_mask(path, (16, 16))
    with pytest.warns(UserWarning, match=r"use --config.invert_mask=False if black marks the hole"):
        load_mask(path, (16, 16), invert=True)


def test_masks_as_in_the_paper_do_not_look_inverted():
    half = np.arange(16) < 8
    lines = np.arange(16) % 2 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_mask(np.tile(half, (16, 1)), "half")
        check_mask(np.tile(lines[:, None], (1, 16)), "alternating lines")
        check_mask(np.outer(lines, lines), "super-resolution")


# Finding and pairing.


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path):
    for name in ("10.png", "2.PNG", "1.jpg", ".hidden.png", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    names = [path.name for path in find_images(tmp_path)]
    assert names == ["1.jpg", "2.PNG", "10.png"]
    assert [path.name for path in find_images(f"{tmp_path}/*.p*")] == ["10.png"]
    assert find_images(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


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
    with pytest.raises(ImageError, match=r"none of the 1 files there is a picture.*.png, .jpg"):
        find_images(f"{tmp_path}/*")


def paths(tmp_path, *names):
    return [tmp_path / name for name in names]


def test_masks_are_paired_by_name_whatever_their_order(tmp_path):
    images = paths(tmp_path, "a.jpg", "b_mask.png", "c.png")
    masks = paths(tmp_path, "c_mask003.png", "b_mask_mask.png", "a.png", "unused.png")
    assert [mask.name for mask in pair_masks(images, masks)] == [
        "a.png",
        "b_mask_mask.png",
        "c_mask003.png",
    ]


def test_one_mask_serves_all(tmp_path):
    images, (mask,) = paths(tmp_path, "a.png", "b.png"), paths(tmp_path, "m.png")
    assert pair_masks(images, [mask]) == [mask, mask]


def test_a_picture_without_mask_is_named(tmp_path):
    images = paths(tmp_path, *(f"{name}.png" for name in "abcdefg"))
    masks = paths(tmp_path, "a.png", "b_mask.png")
    with pytest.raises(ImageError, match=r"c.png, d.png, e.png and 2 more: no mask") as error:
        pair_masks(images, masks)
    assert "among 2 masks for 7 pictures" in one_line(error)


def test_two_masks_of_one_name_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"a_mask.png: a picture needs one mask, but .*a.png has"):
        pair_masks(paths(tmp_path, "a.png"), paths(tmp_path, "a.png", "a_mask.png"))


# Numbers and bytes.


def test_every_byte_survives_the_model_range():
    values = np.arange(256, dtype=np.uint8)
    floats = to_float(values)
    assert floats.dtype == np.float32
    assert (floats[0], floats[-1]) == (-1, 1)
    np.testing.assert_array_equal(to_uint8(floats), values)


def test_bytes_are_rounded_and_clipped():
    thirds = (np.array([99.6, 100.4, -9, 300]) / 127.5 - 1).astype(np.float32)
    np.testing.assert_array_equal(to_uint8(thirds), [100, 100, 0, 255])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_become_no_bytes(bad):
    with pytest.raises(ValueError, match="1 of the picture's 4 numbers"):
        to_uint8(np.array([0, bad, 0, 0], np.float32))


def test_floats_are_not_taken_for_bytes():
    with pytest.raises(ValueError, match="must be uint8, got float64"):
        to_float(np.zeros(3))


# Saving.


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1), (4, 6)])
def test_saved_pictures_are_read_back(tmp_path, shape):
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "new" / "a.png"
    save_image(path, picture)
    channels = shape[2] if len(shape) == 3 else 1
    np.testing.assert_array_equal(
        load_image(path, channels=channels), picture.reshape(4, 6, channels)
    )
    assert list(path.parent.iterdir()) == [path]


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save_image(path, PICTURE)

    def interrupted(self, file, **options):
        file.write_bytes(b"half a pict")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(OSError, match="disk full"):
        save_image(path, PICTURE)
    np.testing.assert_array_equal(load_image(path), PICTURE)
    assert list(tmp_path.iterdir()) == [path]


def test_only_bytes_and_png_are_saved(tmp_path):
    with pytest.raises(ValueError, match=r"end the name in .png"):
        save_image(tmp_path / "a.jpg", PICTURE)
    with pytest.raises(ValueError, match="must be uint8, got float64"):
        save_image(tmp_path / "a.png", PICTURE / 255)


def test_the_astronaut_is_a_square_face():
    picture = astronaut()
    assert picture.shape == (158, 158, 3)
    # Dark pupils where CelebA has the eyes; fair skin between and below them.
    for x in (0.355, 0.638):
        eye = picture[76:86, round(x * 158) - 6 : round(x * 158) + 6].mean(axis=2)
        assert eye.min() < 70
    assert picture[88:96, 74:84].mean() > 120
