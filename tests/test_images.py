"""Any file becomes the right bytes, or one line that says what to do."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from repaint_jax.errors import ImageError
from repaint_jax.pictures.images import (
    astronaut,
    image_shape,
    load_image,
    save_image,
)
from repaint_jax.pictures.mask_files import load_mask
from repaint_jax.pixels import to_float, to_uint8

# 32 high, 48 wide, in flat quarters so that JPEG leaves them nearly as they are.
COLOURS = np.array([[[200, 30, 40], [20, 180, 60]], [[30, 40, 220], [250, 250, 250]]], np.uint8)
PICTURE = COLOURS.repeat(16, axis=0).repeat(24, axis=1)
HALF = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8)[None].repeat(8, axis=0)  # left is kept


def write(path, array, mode=None, **options):
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


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


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_deep_grey_of_fewer_bits_is_said_with_its_range_and_the_way_out(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 64).round().astype(np.uint16).reshape(8, 8)
    path = write(tmp_path / "a.png", values)
    told = rf"a.png: nearly black, for its numbers go from 0 to {2**bits - 1} where 65535 is white"
    with pytest.warns(UserWarning, match=told) as warned:
        dark = load_image(path, channels=1)
    assert dark.max() <= 64
    factor = float(re.search(r"multiply them by ([\d.]+)", str(warned[0].message))[1])
    bright = load_image(write(path, (values * factor).round().astype(np.uint16)), channels=1)
    np.testing.assert_allclose(bright[..., 0], values * 255.0 / (2**bits - 1), atol=1)


def test_other_deep_pictures_that_are_nearly_black_are_said_too(tmp_path):
    floats = write(tmp_path / "a.tif", np.array([[0, 1.01], [0.5, 0.7]], np.float32))
    with pytest.warns(UserWarning, match=r"from 0 to 1\.01 where 255 is white"):
        load_image(floats)
    with pytest.warns(UserWarning, match=r"the array: .* from 0 to 255 where 65535 is white"):
        load_image(np.arange(256).reshape(16, 16))
    deep_colours = png(np.arange(4 * 4 * 3, dtype=np.uint16).reshape(4, 4, 3) * 80)  # 12 bits
    (tmp_path / "b.png").write_bytes(deep_colours)
    with pytest.warns(UserWarning, match=r"b\.png: .* from 0 to 14 where 255 is white"):
        load_image(tmp_path / "b.png")


def png(colours):
    """A PNG of 16 bits a channel, which Pillow reads and does not write."""

    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width, _ = colours.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_a_picture_of_8_bits_may_be_as_dark_as_it_likes(tmp_path):
    load_image(write(tmp_path / "a.png", PICTURE // 100))
    load_image(write(tmp_path / "b.png", np.zeros((4, 4), np.uint16)))


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "LA", "RGBA"])
def test_arrays_and_pillow_images_are_read_as_files_are(tmp_path, mode):
    image = Image.fromarray(PICTURE).convert(mode)
    path = write(tmp_path / "a.png", image)
    expected = load_image(path, size=(9, 14))
    np.testing.assert_array_equal(load_image(image, size=(9, 14)), expected)
    assert image_shape(image) == image_shape(PICTURE) == (32, 48)
    if mode not in ("P", "LA"):  # whose array means something else
        np.testing.assert_array_equal(load_image(np.array(image), size=(9, 14)), expected)
    assert image.mode == mode  # and is left alone


def test_arrays_of_other_numbers_are_scaled_as_in_files():
    deep = PICTURE.astype(np.uint16) * 257
    np.testing.assert_array_equal(load_image(deep), PICTURE)
    np.testing.assert_array_equal(load_image((PICTURE / 255).astype(np.float32)), PICTURE)
    np.testing.assert_array_equal(load_image(deep[..., :1], channels=1), PICTURE[..., :1])


@pytest.mark.parametrize(
    "array", [np.zeros(4), np.zeros((4, 4, 2)), np.zeros((0, 4)), np.array([["a"]]), 1j * np.eye(4)]
)
def test_arrays_that_are_no_pictures_are_refused(array):
    with pytest.raises(ImageError, match=r"the array: expected a picture as numbers \[H, W\]"):
        load_image(array)


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


def test_a_size_whose_aspect_ratio_is_not_exact_in_floats_is_fitted(tmp_path):
    # In floats 13 * (229 / 13) is more than 229.
    for height, width, shape in ((229, 269, (13, 10)), (269, 229, (10, 13))):
        path = write(tmp_path / "a.png", np.full((height, width), 90, np.uint8))
        assert (
            load_image(path, size=shape, channels=1).tolist() == np.full((*shape, 1), 90).tolist()
        )


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
