"""Whatever a mask's file holds, the right pixels are known, or one line says what to do."""

import warnings

import numpy as np
import pytest
from PIL import Image

from repaint_jax.errors import ImageError, mend_of
from repaint_jax.pictures.images import image_shape, load_image
from repaint_jax.pictures.mask_files import check_mask, load_mask, load_masked, read_mask

HALF = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8)[None].repeat(8, axis=0)  # left is kept


def write(path, array, mode=None, **options):
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def mask_file(tmp_path, array=HALF, name="mask.png", mode=None, **options):
    return write(tmp_path / name, array, mode, **options)


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


def test_more_than_two_values_are_cut_at_the_middle_of_their_range(tmp_path):
    greys = np.array([[0, 1, 127, 128, 254, 255]], np.uint8).repeat(6, axis=0)
    with pytest.warns(UserWarning, match=r"33% of the mask are grey, .* cut at 127\.5: .* save it"):
        known = load_mask(mask_file(tmp_path, greys), (6, 6))
    np.testing.assert_array_equal(known[0], [0, 0, 0, 1, 1, 1])
    deep = np.array([[0, 100, 32767, 32768, 60000, 65535]], np.uint16)
    with pytest.warns(UserWarning, match="grey"):
        known = read_mask(mask_file(tmp_path, deep))
    np.testing.assert_array_equal(known[0], [0, 0, 0, 1, 1, 1])


def test_smooth_edges_do_not_warn(tmp_path):
    edge = np.interp(np.arange(64), [30, 33], [0, 255]).astype(np.uint8)
    known = load_mask(mask_file(tmp_path, np.tile(edge, (64, 1))), (64, 64))
    np.testing.assert_array_equal(known[0], np.arange(64) >= 32)


TWO_VALUES = {
    "0/1": (np.uint8, (0, 1)),
    "1/255": (np.uint8, (1, 255)),
    "200/255": (np.uint8, (200, 255)),
    "16-bit 0/255": (np.uint16, (0, 255)),
    "32-bit 5/70000": (np.int32, (5, 70000)),
    "float 0/2": (np.float32, (0, 2)),
    "float -1/1": (np.float32, (-1, 1)),
}


@pytest.mark.parametrize("kind", TWO_VALUES)
def test_of_two_values_the_higher_is_known_whatever_they_are(tmp_path, kind):
    dtype, (low, high) = TWO_VALUES[kind]
    levels = np.where(HALF == 255, dtype(high), dtype(low))
    file = mask_file(tmp_path, levels, "mask.tif")
    for source in (file, levels, Image.fromarray(levels)):
        np.testing.assert_array_equal(load_mask(source, (8, 8)), HALF == 255)
        np.testing.assert_array_equal(load_mask(source, (8, 8), invert=True), HALF == 0)


def test_half_erased_with_one_stroke_is_the_hole(tmp_path):
    rgba = np.full((8, 8, 4), 90, np.uint8)
    rgba[..., 3] = np.where(HALF == 255, 255, 180)
    np.testing.assert_array_equal(load_mask(mask_file(tmp_path, rgba), (8, 8)), HALF == 255)


def test_a_mask_of_odd_numbers_is_refused(tmp_path):
    odd = np.array([[-3.0, 0.5, 1.0]], np.float32)
    with pytest.raises(ImageError, match=r"two values, or float32 from 0 to 1, got more from -3"):
        read_mask(mask_file(tmp_path, odd, "mask.tif"))


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
    with pytest.raises(ImageError, match=f"no hole.*pass invert={not invert}") as error:
        load_mask(path, (8, 8), invert=invert)
    assert str(error.value).startswith(str(path))
    assert mend_of(error.value) == f"invert={not invert}"


@pytest.mark.parametrize("invert", [False, True])
def test_a_mask_that_keeps_nothing_is_refused_with_a_way_for_those_who_mean_it(tmp_path, invert):
    path = mask_file(tmp_path, np.full((8, 8), 255 if invert else 0, np.uint8))
    with pytest.raises(
        ImageError, match=r"nothing is known at 8x8.*take the mask .whole."
    ) as error:
        load_mask(path, (8, 8), invert=invert)
    assert mend_of(error.value) == f"invert={not invert}"


def test_a_mask_that_looks_inverted_warns(tmp_path):
    hole_in_white = np.zeros((16, 16), np.uint8)
    hole_in_white[4:10, 5:12] = 255
    path = mask_file(tmp_path, hole_in_white)
    with pytest.warns(UserWarning, match=r"pass invert=True if white marks the hole") as warned:
        load_mask(path, (16, 16))
    assert mend_of(warned[0].message) == "invert=True"
    load_mask(path, (16, 16), invert=True)
    path = mask_file(tmp_path, 255 - hole_in_white)
    load_mask(path, (16, 16))
    with pytest.warns(UserWarning, match=r"pass invert=False if black marks the hole"):
        load_mask(path, (16, 16), invert=True)


def test_masks_as_in_the_paper_do_not_look_inverted():
    half = np.arange(16) < 8
    lines = np.arange(16) % 2 == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_mask(np.tile(half, (16, 1)), "half")
        check_mask(np.tile(lines[:, None], (1, 16)), "alternating lines")
        check_mask(np.outer(lines, lines), "super-resolution")


# With the picture.

COLOUR = (30, 90, 200)


def erased_box(side=320, under=(255, 255, 255), alpha=0):
    """A uniform picture with a box erased, and its mask."""
    rgba = np.full((side, side, 4), (*COLOUR, 255), np.uint8)
    rgba[101:203, 90:187] = (*under, alpha)
    return rgba, ~np.all(rgba == (*under, alpha), axis=-1)


@pytest.mark.parametrize("size", [32, 64, (48, 31), 320, 500])
@pytest.mark.parametrize("way", ["erased, itself", "black, mask", "erased, mask"])
def test_what_was_erased_never_shows_in_a_known_pixel(tmp_path, size, way):
    rgba, known = erased_box(under=(0, 0, 0) if way == "black, mask" else (255, 255, 255))
    picture = rgba[..., :3] if way == "black, mask" else rgba
    path = write(tmp_path / "a.png", picture)
    mask = path if way == "erased, itself" else write(tmp_path / "m.png", np.uint8(255) * known)
    for keep_partial in (False, True):
        loaded, where = load_masked(path, mask, size=size, keep_partial=keep_partial)
        assert 0.5 < where.mean() < 1
        np.testing.assert_array_equal(loaded[where], np.broadcast_to(COLOUR, (where.sum(), 3)))
    arrays = load_masked(picture, picture if mask == path else known, size=size)
    for one, other in zip(load_masked(path, mask, size=size), arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_half_erased_by_a_soft_brush_keeps_its_colour(tmp_path):
    rgba, _ = erased_box()
    rgba[101:203, 80:90] = (*COLOUR, 140)  # above one half: known
    path = write(tmp_path / "a.png", rgba)
    loaded, known = load_masked(path, path, size=320)
    assert known[150, 85]
    assert loaded[150, 85].tolist() == list(COLOUR)


def test_without_a_hole_nearby_pixels_are_those_of_the_picture_alone(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
    known = np.ones((320, 320), bool)
    known[101:203, 90:187] = False
    loaded, where = load_masked(picture, known, size=32)
    alone = load_image(picture, size=32)
    far = np.ones((32, 32), bool)
    far[6:25, 5:23] = False  # Lanczos looks three pixels far
    assert where[far].all()
    np.testing.assert_array_equal(loaded[far], alone[far])
    np.testing.assert_array_equal(loaded[~where], alone[~where])
    assert (loaded[where] != alone[where]).any()


def test_a_mask_of_the_models_size_stays_as_it_is():
    picture = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    lines = np.tile(np.arange(64)[:, None] % 2 == 0, (1, 64))
    loaded, known = load_masked(picture, lines, size=64)
    np.testing.assert_array_equal(known, lines)
    assert loaded.shape == (64, 64, 3)


def test_a_scratch_of_4_of_320_pixels_is_a_hole_at_32():
    mask = np.full((320, 320), 255, np.uint8)
    mask[40:120, 40:120] = 0
    mask[200:300, 251:255] = 0
    known = load_mask(mask, (32, 32))
    assert not known[20:30, 25].any()
    assert not known[4:12, 4:12].any()
    assert known.sum() == 32 * 32 - 10 - 64
    kept = load_mask(mask, (32, 32), keep_partial=True)
    assert kept[20:30, 25].all()
    assert kept.sum() == 32 * 32 - 64
