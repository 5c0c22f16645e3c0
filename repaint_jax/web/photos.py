"""Photographs in memory: from uploaded bytes, seen at any size, and back to PNG."""

from __future__ import annotations

import io
import threading
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from repaint_jax.errors import ImageError
from repaint_jax.pictures.images import astronaut, load_image
from repaint_jax.pictures.mask_files import read_mask
from repaint_jax.pictures.resizing import Shape
from repaint_jax.pictures.windows import Window
from repaint_jax.web.refusals import Refused

LARGEST_FILE = 64 << 20  # bytes
LARGEST_PICTURE = 64_000_000  # pixels
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_LARGEST_VIEW = 4096  # pixels, a side

# Decoding takes memory, and warnings are recorded for all threads at once.
_one_at_a_time = threading.Lock()


class _Upload(io.BytesIO):
    """A file's bytes, and what messages call them."""

    def __str__(self) -> str:
        return "the file"


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, and what has been filled of it.

    Attributes:
        pixels: uint8[H, W, C], as it was opened.
        patches: where it was filled, and with what, uint8[h, w, C]; later ones over earlier ones.
        profile: the ICC profile of its file.
        notes: what the page should say of it.
    """

    pixels: np.ndarray
    patches: tuple[tuple[Window, np.ndarray], ...] = ()
    profile: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def num_bytes(self) -> int:
        """What it adds to memory: its last patch, or all if it has none."""
        return self.patches[-1][1].nbytes if self.patches else self.pixels.nbytes

    def filled(self, box: Window, whole: np.ndarray) -> Photo:
        """This photograph where `whole`, uint8[H, W, C], is in its place in a box."""
        return replace(self, patches=(*self.patches, (box, whole[box.inside].copy())), notes=())

    def part(self, box: Window) -> np.ndarray:
        """The pixels of a box within it, uint8[h, w, C]; to be read only."""
        part = self.pixels[box.inside]
        if self.patches:
            part = part.copy()
        for at, pixels in self.patches:
            top, left = max(box.top, at.top), max(box.left, at.left)
            bottom, right = min(box.bottom, at.bottom), min(box.right, at.right)
            if top < bottom and left < right:
                here = Window(top - box.top, left - box.left, bottom - top, right - left)
                there = Window(top - at.top, left - at.left, bottom - top, right - left)
                part[here.inside] = pixels[there.inside]
        return part

    def whole(self) -> np.ndarray:
        """All pixels, uint8[H, W, C]; to be read only."""
        return self.part(Window(0, 0, *self.shape))


def read_photo(content: bytes, channels: int) -> Photo:
    """A photograph from a file's bytes, upright.

    Raises:
        Refused: it is no picture, of an unknown kind, or too large; told before it is decoded.
    """
    with _one_at_a_time, warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", message=".*nearly black")
        profile, notes = _head(content, channels)
        try:
            pixels = load_image(_Upload(content), channels=channels)
        except ImageError as error:
            raise Refused(422, str(error)) from error
    return Photo(pixels, (), profile, (*notes, *(str(each.message) for each in told)))


def read_known(content: bytes, shape: Shape) -> np.ndarray:
    """An uploaded mask, bool[H, W], True where it is white.

    Raises:
        Refused: as `read_photo` does; or it is not of the photograph's size.
    """
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of grey masks; what comes of them is seen
        _head(content, 1)
        try:
            known = read_mask(_Upload(content))
        except ImageError as error:
            raise Refused(422, str(error)) from error
    if known.shape != shape:
        raise Refused(
            422,
            f"the mask has {known.shape[1]} x {known.shape[0]} pixels, but the photograph "
            f"{shape[1]} x {shape[0]}: a mask is drawn on the photograph itself",
        )
    return known


def portrait(channels: int) -> Photo:
    """The portrait in the box: Eileen Collins (NASA, public domain)."""
    return Photo(astronaut(channels=channels))


def view(photo: Photo, box: Window, width: int) -> tuple[bytes, str]:
    """A part of a photograph, not enlarged, `width` pixels wide at the most; and its media type."""
    height, width_of_all = photo.shape
    inside = 0 <= box.top < box.bottom <= height and 0 <= box.left < box.right <= width_of_all
    if not inside:
        raise Refused(422, "a view must lie within the picture")
    image = _as_image(photo.part(box))
    size = _at_most(image, width)
    if size == image.size:
        return _encoded(image, "PNG", compress_level=1), "image/png"
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _encoded(image, "JPEG", quality=92, subsampling=0), "image/jpeg"


def mask_view(known: np.ndarray, width: int) -> bytes:
    """A mask as PNG whose opacity is the hole, `width` pixels wide at the most."""
    alpha = Image.fromarray(np.where(known, 0, 255).astype(np.uint8))
    alpha = alpha.resize(_at_most(alpha, width), Image.Resampling.BOX)
    picture = Image.new("LA", alpha.size)
    picture.putalpha(alpha)
    return _encoded(picture, "PNG", compress_level=1)


def _at_most(image: Image.Image, width: int) -> tuple[int, int]:
    """Width and height of an image that is shrunk to a width, and to what a screen may need."""
    scale = min(1.0, max(width, 1) / image.width, *(_LARGEST_VIEW / side for side in image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def mask_file(hole: np.ndarray) -> bytes:
    """A mask as PNG: white is kept, black is filled."""
    return _encoded(Image.fromarray(~hole), "PNG")


def photo_file(photo: Photo) -> bytes:
    """A photograph as PNG, with its colour profile."""
    more = {"icc_profile": photo.profile} if photo.profile else {}
    return _encoded(_as_image(photo.whole()), "PNG", compress_level=1, **more)


def preview_file(picture: np.ndarray) -> bytes:
    """uint8[h, w, C] as PNG."""
    return _encoded(_as_image(picture), "PNG", compress_level=1)


def archive(photos: Iterable[Photo]) -> bytes:
    """Photographs as a zip of PNGs."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for i, photo in enumerate(photos, 1):
            zipped.writestr(f"filled_{i:02}.png", photo_file(photo))
    return file.getvalue()


def _head(content: bytes, channels: int) -> tuple[bytes | None, tuple[str, ...]]:
    """Looks at a file's head alone: its kind and size. Where warnings are caught.

    Returns:
        The ICC profile, if there is one for `channels`; and what is lost when it is read.
    """
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC and b"avif" not in content[8:64]:
        raise Refused(
            415,
            "HEIC, the format of iPhones, cannot be read here: share or export the photograph as "
            "JPEG first (Settings, Camera, Formats, Most Compatible makes new ones JPEG)",
        )
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            profile, notes = image.info.get("icc_profile"), tuple(_losses(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large() from error
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise Refused(
            415, f"that is no picture that can be read here: expected {', '.join(FORMATS)}"
        ) from error
    if width * height > LARGEST_PICTURE:
        raise _too_large()
    fits = isinstance(profile, bytes) and profile[16:20] == (b"RGB " if channels == 3 else b"GRAY")
    return profile if fits else None, notes


def _losses(image: Image.Image) -> Iterator[str]:
    """What a picture has that a result will not have."""
    if image.has_transparency_data:
        yield "its transparent parts, if it has any, are laid over white"
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        yield "its more than 8 bits a channel become 8"


def _too_large() -> Refused:
    return Refused(
        413,
        f"the picture has too many pixels: at most {LARGEST_PICTURE // 1_000_000} megapixels are "
        "taken; shrink it first",
    )


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
