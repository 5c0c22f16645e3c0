"""Runs that are killed, starved of disk or memory, or not allowed to write."""

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
import pytest
from config_files import ROOT, load_config
from PIL import Image

from repaint_jax.checkpoints import load, load_about, save
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.results import Results
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.runtime import batches as sampling
from repaint_jax.runtime.batches import Batches
from repaint_jax.runtime.processes import Processes

SIDE = 16


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for name in "ab":
        picture = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder


def settings(tiny, faces, **more):
    """Two pictures, two ways each, in batches of three: two batches of 40 network calls."""
    config = load_config()
    with config.unlocked():
        config.update({"image": str(faces), "num_samples": 2, "batch_size": 3})
        config.update({"model": {"path": str(tiny)}, "noise": {"num_steps": "20"}, **more})
    return config


def outputs(workdir):
    """Every picture's and film's bytes by its path."""
    return {
        str(path.relative_to(workdir)): path.read_bytes()
        for path in sorted(workdir.rglob("*"))
        if path.suffix in (".png", ".gif")
    }


def told(process, pipe, seconds=300):
    """What a child says, or the error it dies of."""
    assert pipe.poll(seconds), "the child says nothing"
    return pipe.recv()


def child(tiny, faces, workdir, cache, pipe):
    """A run in a process of its own; tells when it has started, and how it ended."""
    try:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        calls = []
        original = sampling.one_ahead

        def watched(walk):
            for done, x in original(walk):
                calls.append(done)
                yield done, x

        sampling.one_ahead = watched
        pipe.send("started")
        run_inpainting(settings(tiny, faces), Path(workdir), save_minutes=0.0)
        pipe.send(calls)
    except BaseException:
        pipe.send(traceback.format_exc())


@pytest.fixture(scope="module")
def start(tiny, faces, tmp_path_factory):
    """Starts a run; its process, and the pipe on which it tells."""
    server = multiprocessing.get_context("forkserver")
    # So that a start takes no time: what a run imports, and this module, which imports the rest.
    used = ["matplotlib.figure", "matplotlib.backends.backend_agg", "skimage.metrics"]
    server.set_forkserver_preload(["test_faults", *used])
    cache = str(tmp_path_factory.mktemp("cache"))

    def run(workdir):
        ours, theirs = server.Pipe()
        process = server.Process(target=child, args=(tiny, faces, str(workdir), cache, theirs))
        process.start()
        theirs.close()
        assert told(process, ours) == "started"
        return process, ours

    return run


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """The outputs of a run that nothing disturbed, how long one takes, and its looks."""
    for number in range(2):  # the first compiles
        workdir = tmp_path_factory.mktemp("whole") / str(number)
        began = time.monotonic()
        process, pipe = start(workdir)
        calls = told(process, pipe)
        process.join()
    return outputs(workdir), time.monotonic() - began, calls


@pytest.mark.parametrize(
    "seed", [*range(2), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))]
)
def test_killed_at_any_moment_a_run_goes_on_to_the_same_pictures(start, whole, tmp_path, seed):
    expected, duration, looks = whole
    process, pipe = start(tmp_path)
    process.join(random.Random(seed).uniform(0, 1) * duration)
    process.kill()
    process.join()
    left = len(list((tmp_path / "unfinished").glob("*.safetensors")))
    process, pipe = start(tmp_path)
    calls = told(process, pipe)
    process.join()
    assert isinstance(calls, list), calls
    assert outputs(tmp_path) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "grid.png", "inpainted", "known_mask", "masked", "metrics.json",
        "original", "process.gif",
    ]  # fmt: skip
    if left:  # it goes on after what was saved
        assert len(calls) < len(looks)


# ------------------------------------------------------- what an unfinished run binds


@pytest.fixture
def config(tiny, faces):
    return settings(tiny, faces, noise={"num_steps": "4"})


@pytest.fixture
def unfinished(config, tmp_path, monkeypatch):
    """The folder of a run that was stopped with its first batch done."""
    save = Results.save_samples

    def stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Results, "save_samples", stop)
        with pytest.raises(KeyboardInterrupt):
            run_inpainting(config, tmp_path / "out")
    return tmp_path / "out"


def test_finished_batches_are_not_sampled_again(config, unfinished, tmp_path, monkeypatch, capsys):
    done = outputs(unfinished / "inpainted")
    assert len(done) == 3
    batches = []
    walk = Batches._walk
    monkeypatch.setattr(
        Batches, "_walk", lambda *a, **k: batches.append(len(a[1])) or walk(*a, **k)
    )
    run_inpainting(config, unfinished)
    assert batches == [1]
    assert "going on with the unfinished run" in capsys.readouterr().out
    run_inpainting(config, tmp_path / "whole")
    assert outputs(unfinished) == outputs(tmp_path / "whole")
    assert outputs(unfinished / "inpainted").items() > done.items()


def test_a_finished_run_is_started_anew(config, tmp_path, capsys):
    run_inpainting(config, tmp_path)
    (tmp_path / "inpainted" / "a_0.png").write_bytes(b"spoilt")
    before = outputs(tmp_path)
    run_inpainting(config, tmp_path)
    assert "going on" not in capsys.readouterr().out
    assert {k for k, v in outputs(tmp_path).items() if v != before[k]} == {"inpainted/a_0.png"}


def files(workdir):
    return sorted(str(path.relative_to(workdir)) for path in workdir.rglob("*") if path.is_file())


def test_what_lies_in_a_folder_belongs_to_its_configuration(config, tmp_path, tiny, faces):
    """Fewer samples, fewer pictures, other ones: as if the folder had been empty."""
    run_inpainting(config, tmp_path / "out")
    (tmp_path / "out" / "original" / "mine.png").touch()  # no run's
    (tmp_path / "out" / "inpainted" / "mine_0.png").touch()
    one = str(faces / "a.png")
    (tmp_path / "other").mkdir()
    shutil.copy(one, tmp_path / "other" / "c.png")
    for change in ({"num_samples": 1}, {"image": one}, {"image": str(tmp_path / "other")}):
        with config.unlocked():
            config.update(change)
        run_inpainting(config, tmp_path / "out")
        run_inpainting(config, tmp_path / "fresh")
        assert files(tmp_path / "out") == sorted(
            [*files(tmp_path / "fresh"), "inpainted/mine_0.png", "original/mine.png"]
        )
        shutil.rmtree(tmp_path / "fresh")


def test_nor_does_a_run_that_was_given_up_leave_anything(config, unfinished, tmp_path):
    shutil.rmtree(unfinished / "unfinished")  # as the error says
    config.num_samples = 1
    config.seed = 1
    run_inpainting(config, unfinished)
    run_inpainting(config, tmp_path / "fresh")
    assert files(unfinished) == files(tmp_path / "fresh")


def test_a_finished_run_that_is_started_again_and_stopped_has_lost_nothing(
    config, tmp_path, monkeypatch
):
    run_inpainting(config, tmp_path)
    before = outputs(tmp_path)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Results, "save_samples", stop)
    with pytest.raises(KeyboardInterrupt):
        run_inpainting(config, tmp_path)
    assert outputs(tmp_path) == before


@pytest.mark.parametrize(
    ("sign", "kind"), [("evaluation.json", "evaluation"), ("checkpoints", "training run")]
)
def test_a_folder_of_another_kind_is_refused(config, tmp_path, sign, kind):
    (tmp_path / sign).touch()
    with pytest.raises(ConfigError, match=rf"holds results of another kind \({kind}\): choose an"):
        run_inpainting(config, tmp_path)
    assert files(tmp_path) == [sign]


def test_an_unfinished_run_of_other_settings_is_not_overwritten(config, unfinished):
    before = outputs(unfinished)
    config.seed = 1
    message = "config.seed: .* holds an unfinished run with 0, not 1; .* or remove .*unfinished"
    with pytest.raises(ConfigError, match=message):
        run_inpainting(config, unfinished)
    assert outputs(unfinished) == before


def test_an_unfinished_run_of_other_pictures_or_weights_is_not_gone_on_with(
    config, unfinished, tiny, tmp_path
):
    pictures = tmp_path / "faces"
    shutil.copytree(config.image, pictures)
    weights = shutil.copy(tiny, tmp_path)
    with config.unlocked():
        config.image, config.model.path = str(pictures), str(weights)
    record = unfinished / "unfinished" / "run.json"
    run = json.loads(record.read_text())
    run["config"] = json.loads(config.to_json_best_effort())  # as if it had had these paths
    record.write_text(json.dumps(run))
    changed = {
        pictures / "a.png": lambda path: Image.new("RGB", (SIDE, SIDE)).save(path),
        weights: lambda path: save(path, load(tiny), dtype=np.float16, **load_about(tiny)),
    }
    for path, change in changed.items():
        before = Path(path).read_bytes()
        change(path)
        with pytest.raises(ConfigError, match="of other pictures, masks or weights than"):
            run_inpainting(config, unfinished)
        Path(path).write_bytes(before)
    run_inpainting(config, unfinished)


def test_a_run_that_had_nothing_to_lose_binds_nothing(config, unfinished):
    for path in (unfinished / "unfinished").iterdir():
        if path.name != "run.json":
            path.unlink()
    config.seed = 1
    run_inpainting(config, unfinished)
    assert not (unfinished / "unfinished").exists()


def test_two_processes_by_hand_share_a_run_and_the_last_finishes_it(config, tmp_path, capsys):
    run_inpainting(config, tmp_path / "whole")
    out = tmp_path / "shared"
    capsys.readouterr()
    run_inpainting(config, out, processes=Processes(1, 2))
    assert "3 pictures are left to other processes" in capsys.readouterr().out
    assert not (out / "grid.png").exists()
    run_inpainting(config, out, processes=Processes(0, 2))
    assert outputs(out) == outputs(tmp_path / "whole")
    assert not (out / "unfinished").exists()
    rows = json.loads((out / "metrics.json").read_text())["pictures"]
    assert [row["sample"] for row in rows] == [0, 1, 0, 1]
    assert all(row["seconds"] > 0 for row in rows)


# ------------------------------------------------------------ disks and memory


@contextlib.contextmanager
def mounted(folder, *options):
    """A small file system of its own."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def script(config, workdir, *flags, memory=None):
    """The script itself on these settings."""
    command = [
        sys.executable, str(ROOT / "scripts/inpaint.py"),
        f"--config={ROOT / 'configs/celeba32.py'}",
        f"--config.model.path={config.model.path}", f"--config.image={config.image}",
        f"--config.noise.num_steps={config.noise.num_steps}", "--config.num_samples=2",
        "--config.batch_size=3", f"--workdir={workdir}", *flags,
    ]  # fmt: skip

    if memory is not None:
        command = ["prlimit", f"--as={memory}", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(config, tmp_path):
    run_inpainting(config, tmp_path / "whole")
    with mounted(tmp_path / "disk", "size=2m") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes((2048 - 40) << 10))  # room for 10 small files
        done = script(config, disk / "out")
        assert done.returncode == 1
        line = done.stderr.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert "No space left" in line
        assert "make room and run the same command again" in line
        assert "Traceback" not in done.stderr
        ballast.unlink()
        done = script(config, disk / "out")
        assert done.returncode == 0, done.stderr
        assert outputs(disk / "out") == outputs(tmp_path / "whole")


def test_a_read_only_folder_is_one_line_before_anything_is_sampled(config, tmp_path):
    with mounted(tmp_path / "disk", "size=64k", "ro") as disk:
        done = script(config, disk / "out")
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: cannot write to {disk / 'out'} (Read-only file system): choose another folder "
        "(here --workdir)"
    )


@pytest.mark.slow
def test_under_a_memory_limit_a_batch_is_split_until_it_fits(config, tmp_path):
    # Attention over 64 x 64 tokens takes 64 MiB a picture, more than once.
    flags = ("--config.model.image_size=64", "--config.batch_size=32", "--config.num_samples=16")
    short = ("--config.noise.num_steps=1", "--config.resampling.num_resamples=1")
    done = script(config, tmp_path / "out", *flags, *short, memory=4 << 30)
    assert done.returncode == 0, done.stderr
    assert "32 pictures at once do not fit into memory; going on with" in done.stderr
    assert len(list((tmp_path / "out" / "inpainted").iterdir())) == 32
