"""The command that serves the page: up at once, ended cleanly, wrong uses in one line."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager

import httpx
import pytest
from config_files import ROOT
from web_server import events_of, opened, order, photograph

pytestmark = pytest.mark.slow


@contextmanager
def command(*arguments, cwd):
    process = subprocess.Popen(
        [sys.executable, "-m", "repaint_jax", "serve", *arguments], cwd=cwd, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_page_is_up_in_five_seconds_fills_and_ends_cleanly_with_nothing_told(tmp_path):
    began = time.monotonic()
    with command("--config=celeba32", "--port=0", cwd=tmp_path) as process:
        line = process.stdout.readline()
        url = line.split()[1]
        assert httpx.get(url, trust_env=False).status_code == 200
        assert time.monotonic() - began < 5
        client = httpx.Client(
            base_url=url, headers={"x-repaint-client": "0" * 32}, trust_env=False, timeout=60
        )
        with client:
            photo = opened(client, photograph(200, 300))
            asked = {"samples": 1, "method": "repaint", "quality": "draft"}
            with client.stream("POST", "/api/jobs", json=order(photo, **asked)) as response:
                assert list(events_of(response))[-1][0] == "done"
            asked["quality"] = "fine"
            with client.stream("POST", "/api/jobs", json=order(photo, **asked)) as response:
                told = events_of(response)
                while next(told)[0] != "progress":
                    pass
                process.send_signal(signal.SIGINT)
                assert list(told)[-1][0] == "cancelled"
        assert process.wait(10) == 0
        (ready,) = process.stdout.read().splitlines()
        assert ready.startswith("the model is ready after ")
    assert not list(tmp_path.iterdir())


def test_it_ends_cleanly_while_it_is_still_compiling(tmp_path):
    with command("--config=celeba32", "--port=0", cwd=tmp_path) as process:
        process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert re.fullmatch(r"(the model is ready after \d+ s\n)?", process.stdout.read())


def test_a_port_in_use_gives_one_line(tmp_path):
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        with command("--config=celeba32", f"--port={port}", cwd=tmp_path) as process:
            output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output == (
        f"error: --port: cannot listen at 127.0.0.1:{port} (Address already in use): "
        "take another one\n"
    )


def test_a_model_that_is_not_there_gives_one_line_and_ends_it(tmp_path):
    arguments = ("--config=celeba32", "--config.model.path=none.safetensors", "--port=0")
    with command(*arguments, cwd=tmp_path) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    _, error = output.splitlines()
    assert error.startswith("error: ")
    assert "none.safetensors" in error


def test_on_other_hosts_a_token_is_printed_and_what_that_means(tmp_path):
    with command("--config=celeba32", "--port=0", "--host=0.0.0.0", cwd=tmp_path) as process:
        line, meaning = process.stdout.readline(), process.stdout.readline()
        address, token = line.split()[1].split("/#token=")
        assert len(token) == 32
        assert "not encrypted" in meaning
        port = address.rpartition(":")[2]
        url, client = f"http://127.0.0.1:{port}/api/status", {"x-repaint-client": "0" * 32}
        assert httpx.get(url, headers=client, trust_env=False).status_code == 401
        client["authorization"] = f"Bearer {token}"
        assert httpx.get(url, headers=client, trust_env=False).status_code == 200
