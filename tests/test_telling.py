"""Progress is a bar on a terminal and a line a minute elsewhere; printing never fails a run."""

import io
import os
import subprocess
import sys

import pytest

from repaint_jax.runtime import telling
from repaint_jax.runtime.batches import Progress
from repaint_jax.runtime.progress import CallBar
from repaint_jax.runtime.telling import Bar, tell


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when told."""
    now = [1000.0]
    monkeypatch.setattr(telling.time, "monotonic", lambda: now[0])
    return now


def walk(stream, clock, steps=180, seconds=1.0, **options):
    with Bar(total=steps, unit="call", desc="compiling", file=stream, **options) as bar:
        for _ in range(steps):
            clock[0] += seconds
            bar.set_description("sampling", refresh=False)
            bar.update(1)


def test_a_log_gets_a_line_a_minute_with_calls_done_and_time_left(clock):
    log = io.StringIO()
    walk(log, clock, steps=170)
    assert log.getvalue().splitlines() == [
        "sampling: 60/170 calls, 01:00 gone, 01:50 left",
        "sampling: 120/170 calls, 02:00 gone, 00:50 left",
        "sampling: 170/170 calls, 02:50 gone",
    ]


def test_what_an_earlier_run_did_says_nothing_of_the_time_left(clock):
    log = io.StringIO()
    with CallBar(200, file=log) as bar:
        bar.begin(200)
        bar.follow(Progress(100.0, 200.0, resumed=100.0))
        clock[0] += 60
        bar.follow(Progress(160.0, 200.0, resumed=100.0))
    assert log.getvalue().startswith("compiling: 160/200 calls, 01:00 gone, 00:40 left\n")


def test_items_are_counted_as_they_go(clock):
    log = io.StringIO()
    for _ in Bar(range(3), "scoring", unit="picture", file=log):
        clock[0] += 30
    assert log.getvalue().splitlines() == [
        "scoring: 2/3 pictures, 01:00 gone, 00:30 left",
        "scoring: 3/3 pictures, 01:30 gone",
    ]


def test_a_terminal_gets_a_bar(clock):
    terminal = Terminal()
    walk(terminal, clock)
    assert "\r" in terminal.getvalue()
    assert "180/180" in terminal.getvalue()


def test_what_is_soon_over_or_not_to_stay_says_nothing(clock):
    log = io.StringIO()
    walk(log, clock, steps=5, seconds=0.1, delay=1)
    walk(log, clock, steps=5, leave=False)
    assert log.getvalue() == ""


def test_a_stream_that_takes_only_ascii_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    tell("LPIPS ↓ café", stream)
    assert raw.getvalue() == b"LPIPS \\u2193 caf\\xe9\n"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_stream_that_cannot_be_written_stops_nothing(clock):
    tell("something", Full())
    closed = io.StringIO()
    closed.close()
    tell("something", closed)
    walk(Full(), clock)


def test_a_reader_that_leaves_stops_nothing():
    code = "from repaint_jax.runtime.telling import tell\nfor _ in range(9999): tell('x' * 99)"
    reader, writer = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(reader)
    os.close(writer)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, b"")
