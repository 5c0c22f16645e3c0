"""Processes find their places, share all there is, and learn of each other's deaths."""

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import jax
import pytest
from config_files import ROOT

from repaint_jax import cli
from repaint_jax.errors import ConfigError, ProcessError
from repaint_jax.runtime import life_signs as peers
from repaint_jax.runtime.life_signs import Peers
from repaint_jax.runtime.processes import Processes, alive, join


@pytest.fixture
def quick(monkeypatch):
    """A beat of a twentieth of a second, and 2 s of silence for a death."""
    monkeypatch.setattr(peers, "BEAT", 0.05)
    monkeypatch.setattr(peers, "MISSED_BEATS", 40)


def free_port():
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


def test_a_death_is_told_within_a_minute():
    # The beat that was to come, the missed ones, and that many seconds for the file system.
    assert peers.BEAT * (peers.MISSED_BEATS + 1) + 10 <= 60


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_the_shares_are_the_whole_and_do_not_overlap(count):
    work = list(range(20))
    shares = [Processes(i, count).share(work) for i in range(count)]
    assert sorted(item for share in shares for item in share) == work
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_and_by_hand_nobody_waits(tmp_path):
    Processes(1, 2).wait_for_all()
    with alive(0, 1, tmp_path) as processes:
        processes.wait_for_all()
        assert processes.leads
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- who is alive


def test_nobody_leaves_before_all_are_done_and_one_leads(quick, tmp_path):
    done, left, leads = [], [], []

    def work(i):
        with alive(i, 3, tmp_path) as processes:
            time.sleep(0.2 * i)
            done.append(i)
            processes.wait_for_all()
            left.append(len(done))
            leads.append((i, processes.leads))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert left == [3, 3, 3]
    assert sorted(leads) == [(0, True), (1, False), (2, False)]


def test_who_leaves_without_waiting_is_done(quick, tmp_path):
    with ThreadPoolExecutor(1) as pool, Peers(0, 2, tmp_path) as others:
        with Peers(1, 2, tmp_path):
            waiting = pool.submit(others.wait)
            time.sleep(0.5)
            assert not waiting.done()
        assert waiting.result() == []


def test_what_an_earlier_run_left_is_no_sign_of_life(quick, tmp_path):
    def work(i):
        with Peers(i, 2, tmp_path) as others:
            return others.wait()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, range(2))) == [[], []]
    (fate,) = work(0)
    assert re.match(
        r"process 1 was never heard of in .*processes: it died at its start, or has another "
        "--workdir",
        fate,
    )


def test_an_error_of_one_is_told_by_the_others(quick, tmp_path, capsys):
    def fail():
        with Peers(1, 2, tmp_path) as others:
            while "process 0 (" not in str(others._others[0]):
                time.sleep(0.01)
            raise ConfigError("config.seed: from 0")

    with ThreadPoolExecutor(1) as pool, alive(0, 2, tmp_path) as processes:
        failing = pool.submit(fail)
        with pytest.raises(ProcessError, match=r"process 1 \(pid \d+ on .*\) ended: config.seed: "):
            processes.wait_for_all()
        assert isinstance(failing.exception(), ConfigError)
    assert capsys.readouterr().err.count("warning: process 1") == 1


@pytest.fixture
def other(quick, tmp_path):
    """Process 0, a real one, at work."""
    code = (
        "import pathlib, time; from repaint_jax.runtime import life_signs as peers\n"
        f"peers.BEAT = {peers.BEAT}\n"
        f"with peers.Peers(0, 2, pathlib.Path({str(tmp_path)!r})): time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT)}) as process:
        while not (tmp_path / "processes/0.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield process
        process.kill()


def test_the_dead_are_named_and_the_living_go_on(other, tmp_path, capsys):
    told = ""

    def wait_for(text):
        nonlocal told
        deadline = time.monotonic() + 60
        while text not in told and time.monotonic() < deadline:
            time.sleep(0.01)
            told += capsys.readouterr().err
        assert text in told
        told = ""

    name = f"process 0 (pid {other.pid} on {socket.gethostname()})"
    with alive(1, 2, tmp_path) as processes:
        time.sleep(10 * peers.BEAT)
        other.send_signal(signal.SIGSTOP)
        wait_for(f"warning: {name} died: it has been silent for about 2 s")
        assert processes.leads
        other.send_signal(signal.SIGCONT)
        wait_for(f"warning: {name} is heard of again")
        assert not processes.leads
        other.kill()
        started = time.monotonic()
        with pytest.raises(ProcessError, match=r"died: .* Run the same command again"):
            processes.wait_for_all()
        assert time.monotonic() - started < 10


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "processes").write_text("")
    with (
        pytest.raises(OSError, match=r"cannot write to .*choose another folder"),
        alive(0, 2, tmp_path),
    ):
        pass


# ---------------------------------------------------------------- finding each other


def test_two_find_each_other_and_each_knows_its_place():
    address = f"localhost:{free_port()}"
    with ThreadPoolExecutor(2) as pool:
        places = list(pool.map(lambda i: join(address, 2, i, patience=120), range(2)))
    assert places == [(0, 2), (1, 2)]
    assert jax.process_count() == 1  # this process has entered nothing that could end it


def test_a_cluster_tells_the_place_and_the_gpu(monkeypatch):
    job = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "3"}
    for name, value in {**job, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", str(free_port()))
    seen = {}
    monkeypatch.setattr(jax.config, "update", seen.__setitem__)
    assert join(patience=120) == (0, 1)
    assert seen["jax_cuda_visible_devices"] == "3"


def test_no_cluster_is_one_line():
    with pytest.raises(ProcessError, match=r"no cluster was found; start them by srun, .*mpirun"):
        join()


@pytest.mark.parametrize("index", [0, 1])
def test_who_does_not_come_is_not_waited_for_forever(index):
    address = f"localhost:{free_port()}"
    started = time.monotonic()
    with pytest.raises(ProcessError, match=rf"some did not come within 2 s; {address} must be"):
        join(address, 2, index, patience=2)
    assert time.monotonic() - started < 10


# ---------------------------------------------------------------- flags


def given(monkeypatch, **flags):
    none = {"distributed": False, "coordinator_address": None}
    everything = {**none, "num_processes": None, "process_id": None, **flags}
    monkeypatch.setattr(cli.flags, "FLAGS", SimpleNamespace(**everything))
    return cli.joined_processes


def test_flags_by_hand_are_the_place(monkeypatch, tmp_path):
    with given(monkeypatch)(tmp_path) as processes:
        assert processes == Processes(0, 1)
    with given(monkeypatch, num_processes=3, process_id=2)(tmp_path) as processes:
        assert processes == Processes(2, 3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_processes": 2}, "each needs --num_processes and --process_id"),
        ({"process_id": 0}, "each needs --num_processes and --process_id"),
        ({"coordinator_address": "a:1", "process_id": 0}, "each needs --num_processes"),
        ({"coordinator_address": "a"}, "--coordinator_address: HOST:PORT, not 'a'"),
        ({"num_processes": 2, "process_id": 2}, "--process_id: from 0 to 1"),
        ({"num_processes": 2, "process_id": -1}, "--process_id: from 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_together_are_one_line(monkeypatch, tmp_path, flags, message):
    with pytest.raises(ProcessError, match=message), given(monkeypatch, **flags)(tmp_path):
        pass


def test_flags_of_a_coordinator_join(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(cli, "join", lambda *place: asked.append(place) or (0, 1))
    place = {"num_processes": 1, "process_id": 0}
    for flags in ({"distributed": True}, {"coordinator_address": "a:1", **place}):
        with given(monkeypatch, **flags)(tmp_path) as processes:
            assert processes == Processes(0, 1)
    assert asked == [(None, None, None), ("a:1", 1, 0)]
