"""Photographs in memory: from uploaded bytes, seen at any size, and back to PNG."""

from __future__ import annotations

import io
import threading
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass

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

_one_at_a_time = (
    threading.Lock()
)  # decoding takes memory, and recording warnings is not of a thread


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, or what is filled of another.

    Attributes:
        pixels: uint8[H, W, C], its own or those of `box`.
        base: the photograph that it fills, None if it is one itself.
        box: of `base`, what `pixels` replaces.
        profile: the ICC profile of its file, which holds for what is filled, too.
        notes: what the page should say of it.
    """

    pixels: np.ndarray
    base: Photo | None = None
    box: Window | None = None
    profile: bytes | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Height and width."""
        return self.base.shape if self.base else self.pixels.shape[:2]

    @property
    def num_bytes(self) -> int:
        """What it adds to memory."""
        return self.pixels.nbytes

    def filled(self, box: Window, whole: np.ndarray) -> Photo:
        """This photograph where `whole`, uint8[H, W, C], is in its place in a box."""
        return Photo(whole[box.inside].copy(), self, box, self.profile)

    def part(self, box: Window) -> np.ndarray:
        """The pixels of a box within it, uint8[h, w, C]."""
        if self.base is None or self.box is None:
            return self.pixels[box.inside]
        part = self.base.part(box).copy()
        top, left = max(box.top, self.box.top), max(box.left, self.box.left)
        bottom, right = min(box.bottom, self.box.bottom), min(box.right, self.box.right)
        if top < bottom and left < right:
            own = (slice(top - self.box.top, bottom - self.box.top),
                   slice(left - self.box.left, right - self.box.left))  # fmt: skip
            part[top - box.top : bottom - box.top, left - box.left : right - box.left] = (
                self.pixels[own]
            )
        return part

    def whole(self) -> np.ndarray:
        """All pixels, uint8[H, W, C]."""
        return self.part(Window(0, 0, *self.shape))


def read_photo(content: bytes, channels: int) -> Photo:
    """A photograph from a file's bytes, upright.

    Raises:
        Refused: it is no picture, of an unknown kind, or too large; told before it is decoded.
    """
    profile = _check_file(content)
    with _one_at_a_time, warnings.catch_warnings(record=True) as told:
        warnings.filterwarnings("always", message=".*nearly black")
        try:
            pixels = load_image(_named(content), channels=channels)
        except ImageError as error:
            raise Refused(422, str(error)) from error
    return Photo(pixels, profile=profile, notes=tuple(str(each.message) for each in told))


def read_known(content: bytes, shape: Shape) -> np.ndarray:
    """An uploaded mask, bool[H, W], True where it is white.

    Raises:
        Refused: as `read_photo` does; or it is not of the photograph's size.
    """
    _check_file(content)
    with _one_at_a_time, warnings.catch_warnings(record=True):
        warnings.filterwarnings("always", message=".*of the mask are grey")
        try:
            known = read_mask(_named(content))
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
    _check_box(box, photo.shape)
    image = _as_image(photo.part(box))
    width = min(max(width, 1), _LARGEST_VIEW, image.width)
    height = min(max(round(box.height * width / box.width), 1), 4 * _LARGEST_VIEW)
    shrinks = (width, height) != image.size
    if shrinks:
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    if shrinks and width * height > 1 << 18:
        return _encoded(image, "JPEG", quality=92, subsampling=0), "image/jpeg"
    return _encoded(image, "PNG", compress_level=1), "image/png"


def mask_view(known: np.ndarray, width: int) -> bytes:
    """A mask as PNG whose opacity is the hole, `width` pixels wide at the most."""
    alpha = Image.fromarray(np.where(known, 0, 255).astype(np.uint8))
    width = min(width, _LARGEST_VIEW, alpha.width)
    height = max(1, round(alpha.height * width / alpha.width))
    alpha = alpha.resize((width, height), Image.Resampling.BOX)
    picture = Image.new("LA", alpha.size)
    picture.putalpha(alpha)
    return _encoded(picture, "PNG", compress_level=1)


def mask_file(hole: np.ndarray) -> bytes:
    """A mask as PNG: white is kept, black is filled."""
    return _encoded(Image.fromarray(~hole), "PNG")


def photo_file(photo: Photo) -> bytes:
    """A photograph as PNG, with its colour profile."""
    more = {"icc_profile": photo.profile} if photo.profile else {}
    return _encoded(_as_image(photo.whole()), "PNG", compress_level=4, **more)


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


def box_of(hole: np.ndarray) -> Window:
    """The smallest box with the whole hole in it; there must be one."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    top, left = int(rows[0]), int(columns[0])
    return Window(top, left, int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left)


def _check_file(content: bytes) -> bytes | None:
    """Looks at a file's head alone: its kind and size. Returns the ICC profile, if there is one."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIC:
        raise Refused(
            415,
            "HEIC, the format of iPhones, cannot be read here: share or export the photograph as "
            "JPEG first (Settings, Camera, Formats, Most Compatible makes new ones JPEG)",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height, profile = *image.size, image.info.get("icc_profile")
    except Image.DecompressionBombError as error:
        raise Refused(413, _too_large("more than that")) from error
    except Exception as error:  # Pillow's readers raise many kinds for damaged files
        raise Refused(
            415, f"that is no picture that can be read here: expected {', '.join(FORMATS)}"
        ) from error
    if width * height > LARGEST_PICTURE:
        raise Refused(413, _too_large(f"{width} x {height}"))
    return profile if isinstance(profile, bytes) else None


def _too_large(size: str) -> str:
    return (
        f"the picture has too many pixels, {size}: at most {LARGEST_PICTURE // 1_000_000} "
        "megapixels are taken; shrink it first"
    )


def _check_box(box: Window, shape: Shape) -> None:
    inside = 0 <= box.top < box.bottom <= shape[0] and 0 <= box.left < box.right <= shape[1]
    if not inside:
        raise Refused(422, "a view must lie within the picture")


def _named(content: bytes) -> io.BytesIO:
    """A file that messages can call something."""

    class Upload(io.BytesIO):
        def __str__(self) -> str:
            return "the picture"

    return Upload(content)


def _as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
