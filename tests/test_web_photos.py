"""Photographs in memory: what is taken, what is refused, and that no pixel changes on the way."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile
from web_server import photograph, pixels_of, png

from repaint_jax.pictures.windows import Window
from repaint_jax.web import photos
from repaint_jax.web.photos import Photo, read_known, read_photo, view
from repaint_jax.web.refusals import Refused

PIXELS = photograph()


def refused(content, status, words, read=lambda content: read_photo(content, 3)):
    with pytest.raises(Refused, match=words) as fault:
        read(content)
    assert "\n" not in fault.value.message
    assert fault.value.status == status


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright(orientation):
    turned = {
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2), 6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(PIXELS),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(png(PIXELS, exif=exif), 3)
    np.testing.assert_array_equal(photo.whole(), turned[orientation])
    assert pixels_of(photos.photo_file(photo)).shape == photo.pixels.shape
    assert not Image.open(io.BytesIO(photos.photo_file(photo))).getexif()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("BMP", {}),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}), ("JPEG", {"quality": 100}),
    ],
)  # fmt: skip
def test_what_is_downloaded_is_what_was_decoded(kind, options):
    content = png(PIXELS, kind, **options)
    photo = read_photo(content, 3)
    np.testing.assert_array_equal(photo.whole(), pixels_of(content))
    np.testing.assert_array_equal(pixels_of(photos.photo_file(photo)), photo.whole())


def test_of_modes_that_lose_something_the_page_is_told():
    clear = np.dstack([PIXELS, np.full(PIXELS.shape[:2], 255, np.uint8)])
    deep = (PIXELS[..., 0].astype(np.uint16) << 8) | 255
    for pixels, words in ((clear, "transparent"), (deep, "8 bits")):
        (note,) = read_photo(png(pixels), 3).notes
        assert words in note
    assert read_photo(png(PIXELS), 3).notes == ()
    assert read_photo(png(PIXELS[..., 0]), 3).notes == ()


def test_a_colour_profile_is_kept_where_it_still_holds():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = read_photo(png(PIXELS, icc_profile=profile), 3)
    filled = photo.filled(Window(0, 0, 2, 2), np.zeros_like(PIXELS))
    for each in (photo, filled):
        found = Image.open(io.BytesIO(photos.photo_file(each))).info["icc_profile"]
        assert found == profile
    assert read_photo(png(PIXELS, icc_profile=profile), 1).profile is None  # no longer colours


# ---------------------------------------------------------------- what is refused


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width, height):
    """A PNG of black and white pixels that are all alike, small whatever its size."""
    packed = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(packed.compress(row * 1000) for _ in range(height // 1000)) + packed.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30000, 30000), (9000, 9000)])
@pytest.mark.parametrize("read", [lambda c: read_photo(c, 3), lambda c: read_known(c, (9, 9))])
def test_a_bomb_is_refused_before_it_is_decoded(size, read, monkeypatch):
    bomb = flat_png(*size)
    assert len(bomb) < 120_000
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    refused(bomb, 413, "too many pixels: at most 64 megapixels", read)


def test_the_largest_picture_is_just_taken():
    assert read_photo(flat_png(8000, 8000), 1).shape == (8000, 8000)


def test_heic_is_refused_with_the_way_out():
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", 415, "HEIC.*export the photograph as JPEG")
    refused(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", 415, "HEIC")


@pytest.mark.parametrize("content", [b"", b"no picture", b"%!PS-Adobe-3.0", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused(content):
    refused(content, 415, "no picture that can be read here")


@pytest.mark.parametrize(
    ("kind", "status"), [("PNG", 422), ("JPEG", 422), ("TIFF", 422), ("WEBP", 415)]
)
def test_a_picture_that_is_cut_off_is_refused(kind, status):
    content = png(PIXELS, kind)
    refused(content[: len(content) * 2 // 3], status, "picture")


def test_a_broken_picture_is_refused_in_words():
    content = bytearray(png(PIXELS))
    content[len(content) // 2] ^= 255
    refused(bytes(content), 422, "the file: the picture cannot be decoded.*may be damaged")


def test_a_mask_is_white_where_it_is_kept_and_of_the_photographs_size():
    known = photograph(seed=1)[..., 0] > 99
    np.testing.assert_array_equal(read_known(png(known), (40, 60)), known)
    np.testing.assert_array_equal(pixels_of(photos.mask_file(~known)), known)
    words = "the mask has 60 x 40 pixels, but the photograph 40 x 60"
    refused(png(known), 422, words, lambda content: read_known(content, (60, 40)))


# ---------------------------------------------------------------- views, and what was filled


def test_a_view_at_full_size_is_the_pixels_themselves():
    content, kind = view(Photo(PIXELS), Window(5, 7, 20, 30), 4000)
    assert kind == "image/png"
    np.testing.assert_array_equal(pixels_of(content), PIXELS[5:25, 7:37])


@pytest.mark.parametrize(("size", "to", "expected"), [
    ((400, 600), 60, (40, 60)), ((600, 400), 60, (90, 60)), ((9000, 10), 10, (4096, 5)),
    ((10, 9000), 9000, (5, 4096)), ((400, 600), 0, (1, 1)),
])  # fmt: skip
def test_a_view_is_shrunk_to_the_screen(size, to, expected):
    content, kind = view(Photo(np.zeros((*size, 3), np.uint8)), Window(0, 0, *size), to)
    assert kind == "image/jpeg"
    assert pixels_of(content).shape[:2] == expected


@pytest.mark.parametrize(
    "box", [(0, 0, 41, 60), (0, 0, 40, 61), (40, 0, 1, 1), (0, 0, 0, 5), (0, 0, 5, 0)]
)
def test_a_view_lies_within_the_picture(box):
    with pytest.raises(Refused, match="within the picture"):
        view(Photo(PIXELS), Window(*box), 10)


def test_a_masks_view_is_opaque_in_the_hole():
    known = np.ones((400, 600), bool)
    known[100, :] = False  # a scratch of one pixel is seen, if faintly
    alpha = np.asarray(Image.open(io.BytesIO(photos.mask_view(known, 150))).getchannel("A"))
    assert alpha.shape == (100, 150)
    assert set(alpha[25]) == {64}
    assert not np.delete(alpha, 25, axis=0).any()


BOXES = st.tuples(st.integers(0, 39), st.integers(0, 59), st.integers(1, 40), st.integers(1, 60))


def inside(top, left, height, width):
    return Window(top, left, min(height, 40 - top), min(width, 60 - left))


@given(st.lists(BOXES, max_size=4), BOXES)
def test_what_was_filled_lies_over_what_was_there(boxes, seen):
    photo, expected = Photo(PIXELS), PIXELS.copy()
    for i, box in enumerate(boxes):
        box, whole = inside(*box), photograph(seed=i + 1)
        photo = photo.filled(box, whole)
        expected[box.inside] = whole[box.inside]
    seen = inside(*seen)
    np.testing.assert_array_equal(photo.part(seen), expected[seen.inside])
    np.testing.assert_array_equal(photo.whole(), expected)
    last = inside(*boxes[-1]) if boxes else Window(0, 0, 40, 60)
    assert photo.num_bytes == 3 * last.height * last.width  # the others have been counted
