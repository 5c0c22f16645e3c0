"""A picture file that is filled keeps every byte outside of its hole, its mode and what it says."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from repaint_jax.pictures.originals import filled_original, read_original, save_original

COLOURS = np.random.default_rng(0).integers(0, 256, (24, 37, 3), np.uint8)
KNOWN = np.ones((24, 37), bool)
KNOWN[8:20, 5:16] = False
FILLED = np.full((24, 37, 3), (200, 40, 90), np.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture_of(mode):
    deep = COLOURS[..., 0].astype(np.uint16) * 257 - COLOURS[..., 0]
    if mode == "I;16":
        return Image.fromarray(deep)
    if mode == "I":
        return Image.fromarray(deep.astype(np.int32))
    if mode == "F":
        return Image.fromarray((deep / 65535).astype(np.float32))
    colours = Image.fromarray(COLOURS)
    if mode == "P":
        return colours.quantize(32)
    picture = colours.convert(mode)
    if mode in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(COLOURS[..., 1]))
    return picture


@pytest.mark.parametrize(
    ("mode", "kind", "suffix", "colour"),
    [
        ("1", "PNG", ".png", None),
        ("L", "PNG", ".png", 94),  # the grey of that colour, after ITU-R 601
        ("LA", "PNG", ".png", (94, 255)),
        ("P", "PNG", ".png", None),
        ("RGB", "PNG", ".png", (200, 40, 90)),
        ("RGB", "TIFF", ".png", (200, 40, 90)),
        ("RGB", "JPEG", ".png", (200, 40, 90)),
        ("RGB", "WEBP", ".png", (200, 40, 90)),
        ("RGB", "BMP", ".png", (200, 40, 90)),
        ("RGBA", "PNG", ".png", (200, 40, 90, 255)),
        ("RGBA", "WEBP", ".png", (200, 40, 90, 255)),
        ("I;16", "PNG", ".png", 110 * 257),  # the mean of the colours
        ("I;16", "TIFF", ".png", 110 * 257),
        ("CMYK", "TIFF", ".tif", (55, 215, 165, 0)),
        ("CMYK", "JPEG", ".tif", (55, 215, 165, 0)),
        ("I", "TIFF", ".tif", 110 * 257),
        ("F", "TIFF", ".tif", 110 / 255),
    ],
)
def test_every_mode_and_format_keeps_its_bytes(tmp_path, mode, kind, suffix, colour):
    picture_of(mode).save(tmp_path / "photo", format=kind)
    before = read_original(tmp_path / "photo")
    path = save_original(tmp_path / "out", filled_original(before, KNOWN, FILLED))
    assert path.name == f"out{suffix}"
    with Image.open(path) as after:
        assert (after.mode, after.size) == (mode, (37, 24))
        found, original = np.array(after), np.array(before)
    np.testing.assert_array_equal(found[KNOWN], original[KNOWN])
    hole = found[~KNOWN]
    if colour is not None:
        np.testing.assert_allclose(hole, np.broadcast_to(colour, hole.shape), atol=1e-6)
    elif mode == "P":
        nearest = np.asarray(after.convert("RGB"))[~KNOWN].astype(int)
        assert np.abs(nearest.mean(0) - (200, 40, 90)).max() < 40


def test_grey_models_fill_colours_and_colour_models_grey():
    grey = filled_original(picture_of("RGB"), KNOWN, FILLED[..., :1])
    assert (np.asarray(grey)[~KNOWN] == 200).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_anyhow_gives_an_upright_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    how = {"exif": exif, "icc_profile": PROFILE, "dpi": (300, 300), "quality": 95}
    Image.fromarray(COLOURS).save(tmp_path / "photo.jpg", **how)
    before = read_original(tmp_path / "photo.jpg")
    height, width = np.asarray(before).shape[:2]
    assert (height, width) == ((24, 37) if orientation < 5 else (37, 24))
    known = np.ones((height, width), bool)
    known[3:7, 2:9] = False
    filled = np.full((height, width, 3), 7, np.uint8)
    path = save_original(tmp_path / "out", filled_original(before, known, filled))
    with Image.open(path) as after:
        assert after.getexif().get(0x0112, 1) == 1  # not to be turned again
        assert after.getexif()[0x010F] == "Maker"
        assert after.info["icc_profile"] == PROFILE
        assert after.info["dpi"] == pytest.approx((300, 300), abs=0.02)
        found = np.array(after)
    np.testing.assert_array_equal(found[known], np.asarray(before)[known])
    assert (found[~known] == 7).all()


def test_the_small_picture_in_a_cameras_file_does_not_show_what_was_removed(tmp_path):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    small = file.getvalue()
    maker = struct.pack("<HHHIII", 1, 0x010F, 2, 6, 26, 34) + b"Maker\0\0\0"
    thumbnail = struct.pack("<HHHIIHHII", 2, 0x0201, 4, 1, 64, 0x0202, 4, 1, len(small))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + maker + thumbnail + bytes(4) + small
    Image.fromarray(COLOURS).save(tmp_path / "photo.jpg", exif=exif)
    assert small in (tmp_path / "photo.jpg").read_bytes()
    path = save_original(tmp_path / "out", read_original(tmp_path / "photo.jpg"))
    with Image.open(path) as after:
        assert after.getexif()[0x010F] == "Maker"
    assert small not in path.read_bytes()


def test_words_of_a_png_and_xmp_stay(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "A scratch")
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta>ä</x:xmpmeta>")
    Image.fromarray(COLOURS).save(tmp_path / "photo.png", pnginfo=texts)
    path = save_original(tmp_path / "out", read_original(tmp_path / "photo.png"))
    with Image.open(path) as after:
        assert after.text["Title"] == "A scratch"
        assert after.text["XML:com.adobe.xmp"] == "<x:xmpmeta>ä</x:xmpmeta>"


def test_a_key_colour_becomes_opacity(tmp_path):
    Image.fromarray(COLOURS).quantize(16).save(tmp_path / "photo.gif", transparency=3)
    before = read_original(tmp_path / "photo.gif")
    after = filled_original(before, KNOWN, FILLED)
    assert after.mode == "RGBA"
    assert (np.asarray(after)[~KNOWN] == (200, 40, 90, 255)).all()
    np.testing.assert_array_equal(np.asarray(after)[KNOWN], np.asarray(before)[KNOWN])


def test_colours_of_16_bits_are_told_to_lose_some(tmp_path):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + row.tobytes() for row in COLOURS.astype(">u2") * 257)
    head = struct.pack(">IIBBBBB", 37, 24, 16, 2, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    with pytest.warns(UserWarning, match=r"deep.png: of the 16 bits of its colours 8 are kept"):
        read_original(tmp_path / "deep.png")
