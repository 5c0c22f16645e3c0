"""People's own files and machines, from the command line to the page: any name, locale, place."""

import html.parser
import json
import os
import shutil
import subprocess
import sys
import unicodedata
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from config_files import ROOT, load_config
from hypothesis import given, settings
from PIL import Image
from test_naming import NASTY, files

from repaint_jax.evaluation.building import build_set
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.evaluation.run import run_evaluation
from repaint_jax.files import in_text
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.pictures.images import save_image
from repaint_jax.pictures.inputs import read_inputs

SIDE = 16
few = settings(max_examples=-(-settings().max_examples // 3))


def config_of(tiny, **more):
    config = load_config()
    config.update({"model": {"path": str(tiny)}, "noise": {"num_steps": "2"}, "num_samples": 1})
    config.update({"batch_size": 64, "resampling": {"num_resamples": 1}, **more})
    return config


def fill(folder, names):
    """Pictures that all differ; their bytes say which is which."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        picture = np.full((SIDE, SIDE, 3), i % 256, np.uint8)
        picture[0, 0] = i // 256
        Image.fromarray(picture).save(folder / name, "PNG")
    return folder


def pictures_of(folder):
    """What files hold, each once."""
    return sorted(np.asarray(Image.open(path)).tobytes() for path in folder.iterdir())


class Texts(html.parser.HTMLParser):
    """Texts of captions, and files, of a page."""

    def __init__(self, content):
        super().__init__()
        self.captions, self.files, self._inside = [], [], False
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        if tag == "figcaption":
            self._inside = True
            self.captions.append("")
        self.files += [unquote_to_bytes(value) for name, value in attributes if name == "src"]

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "figcaption"

    def handle_data(self, data):
        if self._inside:
            self.captions[-1] += data


@pytest.mark.slow
def test_pictures_of_any_name_go_through_inpainting_and_evaluation(tiny, tmp_path):
    names = [f"{name}.png" for name in NASTY if name != "..."]
    faces = fill(tmp_path / "faces", names)
    out = tmp_path / "out"
    config = config_of(tiny, image=f"{faces}/*", batch_size=8)
    run_inpainting(config, out)
    rows = json.loads((out / "metrics.json").read_text())["pictures"]
    assert len({row["picture"] for row in rows}) == len(names)
    assert pictures_of(out / "original") == pictures_of(faces)
    assert len(list((out / "inpainted").iterdir())) == len(names)
    # Masks of the same names pair.
    masks = fill(tmp_path / "masks", [])
    for name in names:
        Image.fromarray(np.uint8(255) * (np.eye(SIDE) == 0)).save(masks / name, "PNG")
    run_inpainting(config_of(tiny, image=str(faces), mask=str(masks), batch_size=8), out)
    assert len(list((out / "inpainted").iterdir())) == len(names)
    # And the page shows them.
    chosen = build_set(config, data=str(faces), masks=["half"], schedules=["2/1/1"])
    run_evaluation(config, chosen, tmp_path / "scored")
    page = Texts((tmp_path / "scored" / "report.html").read_text(encoding="utf-8"))
    shown = [in_text(name) for name in Folder(tmp_path / "scored").pictures()]
    assert [caption for caption in page.captions if caption in shown] == shown
    for file in page.files:
        assert os.path.exists(os.path.join(os.fsencode(tmp_path / "scored"), file))


@few
@given(files)
def test_drawn_names_lose_and_merge_nothing(tmp_path, names):
    """From the folder to the page, without a network."""
    for folder in ("faces", "out"):
        shutil.rmtree(tmp_path / folder, ignore_errors=True)
    names = [name for name in names if not name.startswith(".")]  # hidden ones are left out
    if not names:
        return
    faces = fill(tmp_path / "faces", names)
    inputs = read_inputs(str(faces), "half", (SIDE, SIDE), 3)
    folder = Folder(tmp_path / "out")
    for name, picture, known in inputs:
        save_image(folder.original(name), picture)
        save_image(folder.known_mask("half", name), np.uint8(255) * known)
        for sample in (0, 1):
            save_image(folder.inpainted("m", "half", name, sample), picture)
    assert pictures_of(tmp_path / "out" / "original") == pictures_of(faces)
    run_scoring(tmp_path / "out")
    rows = (tmp_path / "out" / "scores.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 2 * len(names)
    assert all(json.loads(row)["psnr_hole"] is None for row in rows)  # each with its own original
    page = Texts((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    shown = sorted(in_text(name) for name, *_ in inputs)
    assert not [name for name in shown if name not in page.captions]


def test_a_name_that_is_too_long_for_its_results_is_no_reason_to_sample_in_vain(tiny, tmp_path):
    faces = fill(tmp_path / "faces", ["n" * 240 + ".png"])
    run_inpainting(config_of(tiny, image=str(faces)), tmp_path / "out")
    (made,) = (tmp_path / "out" / "inpainted").iterdir()
    assert made.name.startswith("n" * 200)


def test_one_picture_however_its_name_is_written_has_one_random_stream(tiny, tmp_path):
    streams = []
    for form in ("NFC", "NFD"):
        faces = fill(tmp_path / form, [unicodedata.normalize(form, "café.png")])
        config = config_of(tiny)
        chosen = build_set(config, data=str(faces), masks=["half"], schedules=["2/1/1"])
        run_evaluation(config, chosen, tmp_path / f"out_{form}")
        (made,) = (tmp_path / f"out_{form}" / "inpainted").glob("repaint*/half/*.png")
        streams.append((made.name, made.read_bytes()))
    assert streams[0] == streams[1]


# ------------------------------------------------------------------ the scripts


def script(name, *flags, cwd, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, flags)],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip


def quick(tiny):
    return (
        f"--config={ROOT / 'configs/celeba.py'}", f"--config.model.path={tiny}",
        "--config.num_samples=1", "--config.noise.num_steps=2",
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_a_terminal_or_locale_of_ascii_fails_no_run(tiny, tmp_path, environment):
    faces = fill(tmp_path / "faces", ["cafe\u0301.png", "ü.png"])
    flags = (*quick(tiny), f"--data={faces}", "--masks=half", "--schedules=2/1/1", "--workdir=out")
    done = script("evaluate", *flags, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert b"PSNR" in done.stdout
    assert b"\\u2191" in done.stdout
    assert "↑" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    page = Texts((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert {"café", "ü"} <= {*page.captions}
    done = script(
        "inpaint", *quick(tiny), f"--config.image={faces}", "--workdir=in", cwd=tmp_path,
        **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "in" / "inpainted").iterdir()) == [
        "café_0.png", "ü_0.png",
    ]  # fmt: skip


@pytest.mark.parametrize("platform", ["cuda", "gpu", "rocm", "abacus"])
def test_a_platform_that_is_not_there_is_one_line(tiny, tmp_path, platform):
    done = script("inpaint", *quick(tiny), cwd=tmp_path, JAX_PLATFORMS=platform)
    if done.returncode == 0:
        pytest.skip("it is there")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"error: JAX_PLATFORMS={platform}: JAX finds no such device here, only ")
    assert "set JAX_PLATFORMS=" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_home_and_variables_expand_in_every_path_of_every_flag(tiny, tmp_path):
    home = tmp_path / "home"
    fill(home / "faces", ["a.png"])
    fill(home / "masks", [])
    Image.fromarray(np.uint8(255) * (np.eye(SIDE) == 0)).save(home / "masks" / "a.png")
    shutil.copy(tiny, home / "tiny.safetensors")
    shutil.copy(ROOT / "configs" / "celeba.py", home / "my.py")
    (tmp_path / "cwd").mkdir()
    environment = {"HOME": str(home), "MINE": str(home)}
    some = (
        "--config.model.path=$MINE/tiny.safetensors", "--config.num_samples=1",
        "--config.noise.num_steps=2",
    )  # fmt: skip
    done = script(
        "inpaint", "--config=~/my.py", *some, "--config.image=~/faces",
        "--config.mask=${MINE}/masks", "--workdir=~/in", cwd=tmp_path / "cwd", **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (home / "in" / "inpainted" / "a_0.png").is_file()
    done = script(
        "evaluate", "--config", "${MINE}/my.py", *some, "--data=~/faces", "--masks=~/masks",
        "--schedules=2/1/1", "--workdir=$MINE/out", cwd=tmp_path / "cwd", **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (home / "out" / "table.md").is_file()
    assert not list((tmp_path / "cwd").iterdir())


@pytest.mark.slow
def test_the_flag_that_mends_is_told_beside_the_message(tiny, tmp_path):
    save_image(tmp_path / "full.png", np.full((SIDE, SIDE), 255, np.uint8))
    hole_in_white = np.zeros((SIDE, SIDE), np.uint8)
    hole_in_white[6:9, 6:9] = 255
    save_image(tmp_path / "odd.png", hole_in_white)
    done = script("inpaint", *quick(tiny), "--config.mask=full.png", cwd=tmp_path)
    assert done.stderr.decode().endswith("marks it (here --config.invert_mask=True)\n")
    done = script("inpaint", *quick(tiny), "--config.mask=odd.png", cwd=tmp_path)
    assert done.returncode == 0
    assert b"marks the hole (here --config.invert_mask=True)\n" in done.stderr
    fixed = script(
        "inpaint", *quick(tiny), "--config.mask=odd.png", "--config.invert_mask=True", cwd=tmp_path
    )
    assert b"marks the hole" not in fixed.stderr
    done = script("inpaint", *quick(tiny), "--config.mask=hlaf", cwd=tmp_path)
    assert done.stderr.endswith(b"(here --config.mask)\n")
    fill(tmp_path / "faces", ["a.png"])
    data = ("--data=faces", "--masks=hlaf", "--workdir=out")
    done = script("evaluate", *quick(tiny), *data, cwd=tmp_path)
    assert done.stderr.endswith(b"(here --masks)\n")


def test_the_whole_picture_is_generated_for_those_who_mean_it(tiny, tmp_path):
    run_inpainting(config_of(tiny, mask="whole"), tmp_path)
    with Image.open(tmp_path / "known_mask" / "astronaut.png") as known:
        assert not np.asarray(known).any()
    rows = json.loads((tmp_path / "metrics.json").read_text())["pictures"]
    assert rows[0]["psnr_known"] is None
