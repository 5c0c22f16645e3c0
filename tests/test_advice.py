"""Every advice that an error of pictures and masks gives works when followed to the letter."""

import ast
import re
import traceback
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repaint_jax import pictures
from repaint_jax.errors import DataError, ImageError
from repaint_jax.pictures import datasets
from repaint_jax.pictures.datasets import find_files, read_arrays, read_file
from repaint_jax.pictures.finding import find_images
from repaint_jax.pictures.images import load_image
from repaint_jax.pictures.inputs import read_inputs, read_masks
from repaint_jax.pictures.mask_files import load_mask, load_masked, read_mask
from repaint_jax.pictures.masks import MASKS, make_mask
from repaint_jax.pictures.naming import mask_labels, result_names
from repaint_jax.pictures.pairing import find_masks

WHITE, BLACK = np.full((16, 16), 255, np.uint8), np.zeros((16, 16), np.uint8)
HALF = np.where(np.arange(16) < 8, WHITE, BLACK)
COLOUR = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


def saved(path, array, kind=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(array).save(path, kind)
    return path


def arrays(path, **named):
    np.savez(path, **named)
    return path


# Each case has a folder of its own: what leads to the error, the advice, what follows it.


def no_file(at, monkeypatch):
    yield lambda: load_image(at / "a.png"), "check the path"
    saved(at / "a.png", COLOUR)
    yield lambda: load_image(at / "a.png")


def a_folder_for_a_picture(at, monkeypatch):
    yield lambda: load_image(at), "expected a picture to read"
    saved(at / "a.png", COLOUR)
    yield lambda: load_image(at / "a.png")


def no_known_format(at, monkeypatch):
    (at / "a.png").write_text("x")
    yield lambda: load_image(at / "a.png"), "convert it to PNG or JPEG"
    saved(at / "a.png", COLOUR)
    yield lambda: load_image(at / "a.png")


def damaged(at, monkeypatch):
    whole = saved(at / "a.png", COLOUR).read_bytes()
    (at / "a.png").write_bytes(whole[:300])
    yield lambda: load_image(at / "a.png"), "export it anew"
    (at / "a.png").write_bytes(whole)
    yield lambda: load_image(at / "a.png")


def too_large(at, monkeypatch):
    saved(at / "a.png", COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    yield lambda: load_image(at / "a.png"), "shrink it first"
    saved(at / "a.png", COLOUR[:8, :8])
    yield lambda: load_image(at / "a.png")


def empty(at, monkeypatch):
    yield lambda: load_image(Image.new("RGB", (0, 5))), "the picture is empty"
    yield lambda: load_image(Image.new("RGB", (1, 5)))


def an_array_of_no_picture(at, monkeypatch):
    yield lambda: load_image(COLOUR[0, 0]), r"numbers \[H, W\] or \[H, W, C\]"
    yield lambda: load_image(COLOUR)


def numbers_out_of_range(at, monkeypatch):
    deep = COLOUR[..., 0] * 1000.0
    yield lambda: load_image(deep), "rescale them or save as 8 bits"
    yield lambda: (load_image(deep / deep.max()), load_image(COLOUR[..., 0]))


def another_aspect_ratio(at, monkeypatch):
    picture, mask = COLOUR[:8], saved(at / "m.png", HALF)
    yield lambda: load_masked(picture, mask), "draw it on the picture itself"
    yield lambda: load_masked(picture, saved(mask, HALF[:8]))


def no_hole(at, monkeypatch):
    yield lambda: load_mask(WHITE, (16, 16)), "paint the hole black, or pass invert=True"
    yield lambda: load_mask(HALF, (16, 16))
    yield lambda: load_mask(HALF, (16, 16), invert=True)


def nothing_known(at, monkeypatch):
    yield lambda: load_mask(BLACK, (16, 16)), "pass invert=True .* take the mask 'whole'"
    yield lambda: load_mask(HALF, (16, 16))
    yield lambda: make_mask("whole", (16, 16))


def an_odd_mask(at, monkeypatch):
    odd = HALF.astype(np.float32) - 3
    odd[0, 0] = 7
    yield lambda: read_mask(odd), "save it in black and white"
    yield lambda: read_mask(odd > 100)


def nothing_there(at, monkeypatch):
    yield lambda: find_images(at / "faces"), "a folder of pictures or a pattern such as"
    saved(at / "faces" / "a.png", COLOUR)
    yield lambda: (find_images(at / "faces"), find_images(f"{at}/faces/*.png"))


def no_pictures_name(at, monkeypatch):
    saved(at / "a.heix", COLOUR, "PNG")
    yield lambda: find_images(at), "name a file itself, or convert them to PNG"
    yield lambda: find_images(at / "a.heix")
    saved(at / "a.png", COLOUR)
    (at / "a.heix").unlink()
    yield lambda: find_images(at)


def no_mask_of_that_name(at, monkeypatch):
    image, mask = saved(at / "a.png", COLOUR), saved(at / "masks" / "b.png", HALF)
    yield lambda: find_masks([image], at / "masks"), "name each mask like its picture, or give one"
    yield lambda: find_masks([image], mask)
    mask.rename(at / "masks" / "a.png")
    yield lambda: find_masks([image], at / "masks")


def two_masks(at, monkeypatch):
    image, one = at / "a.png", saved(at / "masks" / "a_mask.png", HALF)
    other = saved(at / "masks" / "mask_a.png", HALF)
    yield lambda: find_masks([image], at / "masks"), "remove one of them"
    other.unlink()
    yield lambda: find_masks([image], one.parent)


def two_pictures_of_one_name(at, monkeypatch):
    yield lambda: result_names([at / "a.png", at / "a.png"]), "rename one of them"
    yield lambda: result_names([at / "a.png", at / "b.png"])


def a_mask_twice(at, monkeypatch):
    yield lambda: mask_labels(["half", "half"], MASKS.__contains__), "leave one of them out"
    yield lambda: mask_labels(["half"], MASKS.__contains__)


def no_such_mask(at, monkeypatch):
    image = str(saved(at / "a.png", COLOUR))
    yield lambda: read_inputs(image, "hlaf", (16, 16), 3), "expected one of wide, .* or a file"
    for mask in MASKS:
        yield lambda mask=mask: read_inputs(image, mask, (16, 16), 3)


def too_small_for_a_mask(at, monkeypatch):
    yield lambda: read_masks("half", [at], (3, 8), [0]), "sides of at least 4 pixels"
    yield lambda: read_masks("half", [at], (4, 8), [0])


def no_zip(at, monkeypatch):
    (at / "a.zip").write_text("x")
    yield lambda: find_files(str(at / "a.zip")), "copy or write it again"
    zipped(at / "a.zip", "a.png")
    yield lambda: find_files(str(at / "a.zip"))


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            with archive.open(name, "w") as file:
                Image.fromarray(COLOUR).save(file, "PNG")
    return path


def no_pictures_in_a_zip(at, monkeypatch):
    zipped(at / "a.zip", "a.heix")
    yield lambda: find_files(str(at / "a.zip")), "convert them to PNG and zip them again"
    zipped(at / "a.zip", "a.png")
    yield lambda: find_files(str(at / "a.zip"))


def too_large_in_a_zip(at, monkeypatch):
    (file,) = find_files(str(zipped(at / "a.zip", "a.png")))
    monkeypatch.setattr(datasets, "_LARGEST_FILE", file.archive.getinfo("a.png").file_size - 1)
    yield lambda: read_file(file, (8, 8, 3)), "shrink it first"
    monkeypatch.undo()
    yield lambda: read_file(file, (8, 8, 3))


def damaged_in_a_zip(at, monkeypatch):
    path = zipped(at / "a.zip", "a.png")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"IDAT", b"IDOT"))
    yield lambda: read_file(find_files(str(path))[0], (8, 8, 3)), "damaged in the zip"
    path.write_bytes(whole)
    yield lambda: read_file(find_files(str(path))[0], (8, 8, 3))


def two_arrays(at, monkeypatch):
    path = arrays(at / "a.npz", a=COLOUR[None], b=COLOUR[None])
    yield lambda: read_arrays(path, ("images",)), "call the pictures 'images'"
    arrays(path, images=COLOUR[None], b=COLOUR[None])
    yield lambda: read_arrays(path, ("images",))


def other_numbers(at, monkeypatch):
    path, x = at / "a.npz", COLOUR[None] / 255
    arrays(path, images=x)
    yield lambda: read_arrays(path, ("images",)), r"\(255 \* x\)\.round\(\)\.astype\('uint8'\)"
    arrays(path, images=(255 * x).round().astype("uint8"))
    yield lambda: read_arrays(path, ("images",))


def channels_first(at, monkeypatch):
    path, x = at / "a.npz", COLOUR.transpose(2, 0, 1)[None]
    arrays(path, images=x)
    yield lambda: read_arrays(path, ("images",)), r"save x\.transpose\(0, 2, 3, 1\)"
    arrays(path, images=x.transpose(0, 2, 3, 1))
    yield lambda: read_arrays(path, ("images",))


def one_picture_or_many(at, monkeypatch):
    path = arrays(at / "a.npz", images=COLOUR)
    told = r"save x\[\.\.\., None\] for grey ones, x\[None\] for a single one"
    yield lambda: read_arrays(path, ("images",)), told
    for array in (COLOUR[..., None], COLOUR[None]):
        yield lambda array=array: read_arrays(arrays(path, images=array), ("images",))


CASES = [
    value
    for value in list(globals().values())
    if getattr(value, "__code__", None) and value.__code__.co_varnames[:2] == ("at", "monkeypatch")
]


def follow(case, at, monkeypatch):
    """Runs into the error, follows its advice, and tells where the error was raised."""
    at.mkdir()
    steps = case(at, monkeypatch)
    fault, advice = next(steps)
    with pytest.raises((ImageError, DataError), match=advice) as raised:
        fault()
    assert "\n" not in str(raised.value)
    for mended in steps:
        mended()
    frame = traceback.extract_tb(raised.value.__traceback__)[-1]
    return Path(frame.filename).name, frame.lineno


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_the_advice_works_to_the_letter(case, tmp_path, monkeypatch):
    follow(case, tmp_path / "case", monkeypatch)


def test_no_error_of_pictures_and_masks_is_without_such_a_test(tmp_path):
    """Every place where an ImageError or a DataError is made belongs to one of the cases."""
    reached = set()
    for i, case in enumerate(CASES):
        with pytest.MonkeyPatch.context() as monkeypatch:
            reached.add(follow(case, tmp_path / str(i), monkeypatch))
    missed = []
    for path in Path(pictures.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or node.exc is None:
                continue
            told = ast.unparse(node.exc)
            lines = range(node.lineno, (node.end_lineno or 0) + 1)
            ours = any(name in told for name in ("ImageError", "DataError", "mended_by"))
            if ours and not any((path.name, line) in reached for line in lines):
                missed.append(f"{path.name}:{node.lineno} {told}")
    assert not missed


def test_messages_of_pictures_and_files_speak_of_no_flag_and_no_configuration():
    package = Path(pictures.__file__).parents[1]
    runtime = [package / "runtime" / f"{name}.py" for name in ("files", "telling", "workdirs")]
    for path in [*(package / "pictures").glob("*.py"), *runtime]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                told = re.search(r"--\w+|config\.(?!json)\w+", ast.unparse(node))
                assert told is None, f"{path.name}:{node.lineno} {told[0]}"
