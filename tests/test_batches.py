"""Batches in segments: nothing of a killed run is lost, and memory decides how many at once."""

import io
import resource
import signal
import time
from contextlib import closing

import jax
import numpy as np
import pytest

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, Sampler
from repaint_jax.methods import State
from repaint_jax.runtime import batches
from repaint_jax.runtime.batches import (
    Batches,
    Task,
    one_ahead,
    segment_stops,
)
from repaint_jax.runtime.devices import fewer_at_once
from repaint_jax.runtime.progress import CallBar
from repaint_jax.runtime.snapshots import Snapshot, SnapshotFile

SIDE = 8
NOISE = NoiseSchedule.linear(1000).respace(30)
PLAN = ResampleSchedule.create(30, jump_length=5, num_resamples=3)
SAMPLER = Sampler(NOISE, PLAN)


def model(x, t):
    return 0.3 * x


def tasks(count):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    known = rng.random((count, SIDE, SIDE)) < 0.5
    return [Task(f"{i}", images[i], known[i], i) for i in range(count)]


JOBS = [(task, 0) for task in tasks(5)]


@pytest.fixture
def new(tmp_path):
    """Makes batches that are saved after each segment."""

    def make(size=5, save_minutes=0.0, seed=0, **more):
        settings = {"snapshots": tmp_path, "save_minutes": save_minutes, **more}
        return Batches(model, size=size, key=jax.random.key(seed), **settings)

    return make


def silent_bar(batches=1):
    return CallBar(batches * PLAN.num_model_calls, file=io.StringIO())


def run(made, jobs=JOBS, bar=None, **more):
    """All pictures by task and sample, and the parts in which they came."""
    bar = silent_bar() if bar is None else bar
    bar.begin(PLAN.num_model_calls)
    parts = []
    with closing(made.run(jobs, SAMPLER, **more)) as walk:
        for progress in walk:
            bar.follow(progress)
            parts += [progress.sampled] if progress.sampled else []
    pictures = {
        (task.name, j): picture
        for part in parts
        for (task, j), picture in zip(part.jobs, part.pictures, strict=True)
    }
    return pictures, parts


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


class Stopped(CallBar):
    """A bar at which the run is stopped."""

    def __init__(self, at, error):
        super().__init__(PLAN.num_model_calls, file=io.StringIO())
        self.at, self.error, self.seen = at, error, 0

    def update(self, n=1):
        self.seen += n
        if self.seen >= self.at:
            raise self.error


@pytest.mark.parametrize("minutes", [0.0, 60.0])
def test_a_stopped_batch_goes_on_at_its_last_snapshot_to_the_same_pictures(
    new, monkeypatch, minutes
):
    whole, (sampled,) = run(new(), film=True)
    error = RuntimeError if minutes == 0 else KeyboardInterrupt  # Ctrl-C saves at any time
    with pytest.raises(error):
        run(new(save_minutes=minutes), bar=Stopped(40, error), film=True)
    starts = []
    original = batches.trajectory

    def watched(*arguments, resume, **more):
        starts.append(resume[0])
        return original(*arguments, resume=resume, **more)

    monkeypatch.setattr(batches, "trajectory", watched)
    bar = silent_bar()
    again, (resumed,) = run(new(save_minutes=minutes), bar=bar, film=True)
    assert same(whole, again)
    # The look at step 40 is what was saved.
    assert starts == [max(stop for stop in segment_stops(PLAN) if stop <= 40)]
    assert bar.n == bar.total == PLAN.num_model_calls
    assert len(resumed.film) == len(sampled.film)
    assert all(map(np.array_equal, resumed.film, sampled.film))


def test_snapshots_are_removed_when_the_pictures_are_saved(new, tmp_path):
    walk = new().run(JOBS, SAMPLER)
    while next(walk).sampled is None:
        pass
    assert len(list(tmp_path.iterdir())) == 1  # the consumer may still be killed
    assert list(walk) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"fingerprint": "other weights"}, {"size": 6}],
    ids=lambda change: next(iter(change)),
)
def test_a_snapshot_of_other_settings_is_not_gone_on_with(new, tmp_path, change):
    name = new()._snapshot_file(JOBS, SAMPLER).path
    assert name == new()._snapshot_file(JOBS, Sampler(NOISE, PLAN)).path
    assert name != new(**change)._snapshot_file(JOBS, SAMPLER).path
    others = (
        (JOBS[:4], SAMPLER),
        ([(JOBS[0][0], 1), *JOBS[1:]], SAMPLER),
        (JOBS, Sampler(NOISE, ResampleSchedule.create(30, 5, 2))),
        (JOBS, Sampler(NoiseSchedule.cosine(1000).respace(30), PLAN)),
        (JOBS, Sampler(NOISE, PLAN, RePaint(eta=0.5))),
        ([(Task("0", 255 - JOBS[0][0].image, JOBS[0][0].known, 0), 0), *JOBS[1:]], SAMPLER),
        ([(Task("0", JOBS[0][0].image, ~JOBS[0][0].known, 0), 0), *JOBS[1:]], SAMPLER),
    )
    names = {new()._snapshot_file(*other).path for other in others}
    assert len(names - {name}) == len(others)


def test_a_snapshot_comes_back_as_it_was(tmp_path):
    x = np.random.default_rng(0).standard_normal((2, 4, 4, 3)).astype(np.float32)
    state = State(x, -x)
    like = jax.eval_shape(lambda: State(x, x))
    film = tuple(np.arange(3 * 48, dtype=np.uint8).reshape(3, 4, 4, 3))
    for frames in (film, ()):
        file = SnapshotFile(tmp_path / "a.safetensors", 0.0)
        file.save_if_due(Snapshot(7, 1.25, state, frames))
        back = file.load(like)
        assert (back.steps, back.seconds) == (7, 1.25)
        assert all(map(np.array_equal, back.state, state))
        assert len(back.film) == len(frames)
        assert all(map(np.array_equal, back.film, frames))
    file.remove()
    assert file.load(like).steps == 0
    assert list(tmp_path.iterdir()) == []


def test_snapshots_are_as_rare_as_asked(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    file = SnapshotFile(tmp_path / "a.safetensors", minutes=5)
    saved = []
    for steps in range(1, 16):
        clock[0] += 59.9
        file.save_if_due(Snapshot(steps, 0.0, np.zeros((1, 2, 2, 3)), ()))
        saved.append(file.load(np.zeros(())).steps)
    # 59.9 seconds a step: due after 6 steps, 359 seconds.
    assert saved == [0] * 5 + [6] * 6 + [12] * 4


@pytest.mark.parametrize("content", [b"", b"no safetensors", b"\xff" * 100], ids=len)
def test_a_snapshot_that_cannot_be_read_starts_its_batch_anew(new, content):
    whole, _ = run(new())
    file = new()._snapshot_file(JOBS, SAMPLER)
    file.path.write_bytes(content)
    with pytest.warns(UserWarning, match="cannot be read .*; starting anew"):
        again, _ = run(new())
    assert same(whole, again)


def test_a_disk_without_room_for_snapshots_ends_no_run(new, tmp_path):
    whole, _ = run(new())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.warns(UserWarning, match="cannot be written .*; sampling goes on"):
            again, _ = run(new())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert same(whole, again)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ memory


@pytest.fixture
def little_memory(monkeypatch):
    """A device that holds two pictures and no more."""
    tried = []
    original = batches.trajectory

    def trajectory(keys, *arguments, **more):
        tried.append(len(keys))
        if len(keys) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")
        return original(keys, *arguments, **more)

    monkeypatch.setattr(batches, "trajectory", trajectory)
    return tried


def test_batches_that_do_not_fit_into_memory_are_split(new, little_memory):
    bar = silent_bar(2)
    made = new(size=5)
    with pytest.warns(UserWarning, match="5 pictures at once do not fit .* going on with 2"):
        pictures, parts = run(made, bar=bar, film=True)
    assert [len(part.jobs) for part in parts] == [2, 2, 1]
    assert [bool(part.film) for part in parts] == [True, False, False]
    assert little_memory == [5, 2, 2, 2]
    # A later batch is split at once.
    _, parts = run(made, jobs=[(task, 1) for task, _ in JOBS], bar=bar)
    assert [len(part.jobs) for part in parts] == [2, 2, 1]
    assert little_memory[4:] == [2, 2, 2]
    assert bar.n == bar.total == 6 * PLAN.num_model_calls
    little_memory.clear()
    alone, _ = run(new(size=1))
    assert same(pictures, alone)


def test_parts_that_are_done_are_not_done_again(new, little_memory):
    done = {id(job) for job in JOBS[:2]}
    bar = silent_bar()
    with pytest.warns(UserWarning, match="going on with 2"):
        _, parts = run(new(), bar=bar, is_done=lambda job: id(job) in done)
    assert [len(part.jobs) for part in parts] == [2, 1]
    assert bar.n == bar.total == 3 * PLAN.num_model_calls


def test_a_picture_that_does_not_fit_alone_is_an_error_that_helps(new, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(batches, "trajectory", full)
    with pytest.raises(MemoryError, match="not hold a single picture: take a smaller"):
        run(new(size=1), jobs=JOBS[:1])


def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory(new, monkeypatch):
    def broken(*_, **__):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    monkeypatch.setattr(batches, "trajectory", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        run(new())


class Device:
    def __init__(self, platform):
        self.platform = platform


@pytest.mark.parametrize(
    ("platform", "size", "count", "fewer"),
    [
        ("gpu", 16, 1, 8), ("gpu", 5, 1, 2), ("gpu", 1, 1, 0), ("gpu", 16, 4, 8), ("gpu", 12, 4, 4),
        ("gpu", 4, 4, 0), ("cpu", 10, 2, 4), ("cpu", 4, 4, 2), ("cpu", 2, 2, 1), ("cpu", 1, 1, 0),
    ],
)  # fmt: skip
def test_memory_is_relieved_by_fewer_pictures_a_device(monkeypatch, platform, size, count, fewer):
    class Mesh:
        devices = np.array([Device(platform)] * count)

        @property
        def size(self):
            return self.devices.size

    assert fewer_at_once(size, Mesh()) == fewer


def test_devices_are_a_segment_ahead_of_the_host():
    asked = []

    def items():
        for i in range(3):
            asked.append(i)
            yield i

    seen = [(item, len(asked)) for item in one_ahead(items())]
    assert seen == [(0, 2), (1, 3), (2, 3)]
    assert list(one_ahead(iter([]))) == []


def test_the_host_looks_at_the_clock_often_enough():
    for plan in (PLAN, ResampleSchedule.create(250), ResampleSchedule.create(1000, 1, 1)):
        stops = [0, *segment_stops(plan), plan.num_model_calls]
        assert max(np.diff(stops)) <= 10
