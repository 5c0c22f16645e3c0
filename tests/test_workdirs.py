"""Two processes at once on one folder of results: the second is refused, nothing is left."""

import subprocess
import sys
import threading
import time

import pytest
from config_files import ROOT

from repaint_jax.errors import ProcessError, mend_of
from repaint_jax.runtime.workdirs import held

HOLD = """
import sys, time
from pathlib import Path
from repaint_jax.runtime.workdirs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is at work in a folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_unless_it_has_another_number(holder, tmp_path):
    with (
        pytest.raises(ProcessError, match="another process is at work there: wait") as error,
        held(tmp_path / "out"),
    ):
        pass
    assert mend_of(error.value) == "workdir"
    with held(tmp_path / "out", 1), held(tmp_path / "other"):
        pass


def test_a_killed_process_keeps_nobody_out_and_nothing_is_left(holder, tmp_path):
    holder.kill()
    holder.wait()
    with held(tmp_path / "out"):
        (tmp_path / "out" / "result.txt").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result.txt"]


@pytest.mark.parametrize("name", ["inpaint", "evaluate", "train"])
def test_every_script_is_refused_in_one_line(holder, tmp_path, name):
    config = ROOT / "configs" / ("train/folder.py" if name == "train" else "celeba.py")
    flags = [f"--config={config}", f"--workdir={tmp_path / 'out'}"]
    command = [sys.executable, ROOT / "scripts" / f"{name}.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path / 'out'}: another process is at work there: wait until it is done, or "
        "choose another folder (here --workdir)\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".0.lock"]


def test_a_folder_into_which_nothing_came_is_gone_again(tmp_path):
    with held(tmp_path / "a" / "b"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with held(tmp_path / "a" / "b"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"cannot write to .*out \(Not a directory\)") as error,
        held(tmp_path / "file" / "out"),
    ):
        pass
    assert mend_of(error.value) == "workdir"


def test_of_many_at_once_only_one_is_in(tmp_path):
    inside, most, refused = [0], [0], []

    def work():
        for _ in range(20):
            try:
                with held(tmp_path / "out"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0.001)
                    inside[0] -= 1
            except ProcessError as error:
                refused.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
