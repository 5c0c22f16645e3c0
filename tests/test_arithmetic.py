"""The dtype "auto": told, recorded, and kept by a run that goes on."""

import json

import numpy as np
import pytest
from config_files import load_config

from repaint_jax.checkpoints import load, load_about, save
from repaint_jax.errors import ConfigError
from repaint_jax.evaluation.building import build_set
from repaint_jax.evaluation.run import run_evaluation
from repaint_jax.inpainting import arithmetic
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.pictures.images import save_image
from repaint_jax.runtime.progress import CallBar


@pytest.fixture
def config(tiny, tmp_path):
    rng = np.random.default_rng(0)
    save_image(tmp_path / "faces" / "a.png", rng.integers(0, 256, (16, 16, 3), np.uint8))
    model = load(tiny)
    model.out_conv.kernel[...] = rng.normal(0, 0.1, model.out_conv.kernel.shape)
    save(tmp_path / "model.safetensors", model, **load_about(tiny))
    config = load_config()
    config.update(
        {
            "image": str(tmp_path / "faces"),
            "num_samples": 1,
            "batch_size": 1,
            "model": {"path": str(tmp_path / "model.safetensors"), "dtype": "auto"},
            "noise": {"num_steps": "20"},
            "resampling": {"jump_length": 10, "num_resamples": 2},
        }
    )
    return config


def on_a_machine_for(dtype, monkeypatch):
    monkeypatch.setattr(arithmetic, "best_dtype", lambda: (dtype, "a reason"))


def pictures(folder):
    paths = (folder / "inpainted").rglob("*.png")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def killed(config, out, monkeypatch):
    """A run that is interrupted in the middle of its only batch."""

    def follow(self, progress):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CallBar, "follow", follow)
        with pytest.raises(KeyboardInterrupt):
            run_inpainting(config, out)
    assert list((out / "unfinished").glob("*.safetensors"))


def test_what_auto_is_here_is_told_in_a_line_and_recorded(config, tmp_path, monkeypatch, capsys):
    on_a_machine_for("bfloat16", monkeypatch)
    run_inpainting(config, tmp_path / "auto")
    assert "computing in bfloat16: a reason\n" in capsys.readouterr().out
    recorded = json.loads((tmp_path / "auto" / "config.json").read_text())
    assert recorded["model"]["dtype"] == "bfloat16"
    assert config.model.dtype == "auto"
    for dtype in ("bfloat16", "float32"):
        config.model.dtype = dtype
        run_inpainting(config, tmp_path / dtype)
    assert "computing in" not in capsys.readouterr().out
    assert pictures(tmp_path / "auto") == pictures(tmp_path / "bfloat16")
    assert pictures(tmp_path / "auto") != pictures(tmp_path / "float32")


def test_a_killed_run_goes_on_bit_for_bit_in_the_dtype_it_began_with(
    config, tmp_path, monkeypatch, capsys
):
    on_a_machine_for("bfloat16", monkeypatch)
    run_inpainting(config, tmp_path / "whole")
    killed(config, tmp_path / "killed", monkeypatch)
    on_a_machine_for("float32", monkeypatch)
    capsys.readouterr()
    run_inpainting(config, tmp_path / "killed")
    told = capsys.readouterr().out
    assert "computing in bfloat16: as this run began\n" in told
    assert "going on with the unfinished run" in told
    assert pictures(tmp_path / "killed") == pictures(tmp_path / "whole")


def test_another_dtype_than_that_of_a_killed_run_is_refused(config, tmp_path, monkeypatch):
    on_a_machine_for("bfloat16", monkeypatch)
    killed(config, tmp_path / "out", monkeypatch)
    config.model.dtype = "float32"
    message = "config.model.dtype: .* an unfinished run with 'bfloat16', not 'float32'; put it back"
    with pytest.raises(ConfigError, match=message):
        run_inpainting(config, tmp_path / "out")


def test_an_evaluation_keeps_the_dtype_of_the_pictures_it_has(config, tmp_path, monkeypatch):
    chosen = build_set(config, data=config.image, masks=["half"], schedules=["4/2/1"])
    on_a_machine_for("bfloat16", monkeypatch)
    run_evaluation(config, chosen, tmp_path / "out")
    on_a_machine_for("float32", monkeypatch)
    more = build_set(config, data=config.image, masks=["half"], schedules=["4/2/1", "4/2/2"])
    run_evaluation(config, more, tmp_path / "out")
    assert len(pictures(tmp_path / "out")) == 2
    config.model.dtype = "float32"
    with pytest.raises(ConfigError, match=r"config.model.dtype: .* with 'bfloat16'"):
        run_evaluation(config, more, tmp_path / "out")
