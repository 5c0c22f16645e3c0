"""What the README says is what the software does."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_networks import checkpoint
from PIL import Image

from repaint_jax import NoiseSchedule, ResampleSchedule
from repaint_jax.config import base
from repaint_jax.inpainting.building import settle_walk
from repaint_jax.inpainting.naming import named_method

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python scripts/")]


def run(command, cwd, *arguments, environment=os.environ):
    words = [sys.executable, *shlex.split(command)[1:], *arguments]
    words = [str(ROOT / word) if word.startswith("scripts/") else word for word in words]
    words = [word.replace("--config=configs", f"--config={ROOT}/configs") for word in words]
    environment = {**environment, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_the_main_command_draws_the_readmes_first_picture(tmp_path):
    first = commands()[0]
    assert first == "python scripts/inpaint.py --config=configs/celeba.py"
    as_a_user_has_it = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    done = run(first, tmp_path, environment=as_a_user_has_it)
    out = tmp_path / "out" / "celeba"
    assert "99/99" in done.stderr
    with Image.open(out / "grid.png") as new, Image.open(ROOT / "docs/images/grid.png") as shown:
        assert new.size == shown.size
        # Another processor rounds otherwise; the pictures stay the same to the eye.
        assert np.abs(np.array(new, float) - np.array(shown, float)).mean() < 2
    known = np.array(Image.open(out / "known_mask" / "astronaut.png")) == 255
    original = np.array(Image.open(out / "original" / "astronaut.png"))
    files = sorted((out / "inpainted").iterdir())
    assert len(files) == 10
    for file in files:
        assert np.array_equal(np.array(Image.open(file))[known], original[known])
    assert json.loads((out / "metrics.json").read_text())["mean"]["psnr_known"] == "inf"


@pytest.mark.slow
@pytest.mark.parametrize("command", commands()[1:])
def test_the_other_commands_run(command, tmp_path):
    with Image.open(ROOT / "docs/images/sample.png") as picture:
        for path in ("faces/a.png", "FACES/b.png", "me.jpg"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            picture.convert("RGB").resize((40, 40)).save(tmp_path / path)
    (tmp_path / "masks").mkdir()
    mask = np.full((40, 40), 255, np.uint8)
    mask[10:20, 10:20] = 0
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    command = command.replace("repaint:250/10/10", "repaint:2")
    quick = ["--config.noise.num_steps=2"] if "inpaint.py" in command else []
    if "inpaint.py" in command:
        quick += ["--config.num_samples=1"]
    if "celeba256_250000.pt" in command:  # a small file of the same make stands in for it
        small = checkpoint("adm_tiny")
        command = command.replace("celeba256_250000.pt", str(small))
        quick += ["--config.model.image_size=16", "--config.model.num_heads=4"]
    if "model-100.pt" in command:
        reference = pytest.importorskip("lucidrains_reference")
        unet = reference.random_unet(dim=8, dim_mults=(1, 2), attn_heads=2, attn_dim_head=4)
        diffusion = reference.lucidrains.GaussianDiffusion(unet, image_size=16, timesteps=50)
        reference.torch.save(diffusion.state_dict(), tmp_path / "model-100.pt")
        quick.append("--config.model.image_size=16")
    if "ddpm_celebahq256.py" in command:  # likewise
        quick.append(f"--config.model.path={ROOT / 'tests/golden/diffusers_tiny'}")
    if "evaluate.py" in command:
        command = re.sub(r" --(methods|schedules)=\S+", "", command)
        quick += ["--methods=repaint:2", "--config.num_samples=1"]
    run(command, tmp_path, *quick)
    assert any((tmp_path / "out").rglob("*.png"))


@pytest.mark.slow
def test_the_python_examples_run(tmp_path, monkeypatch):
    loop, api, file, folder = blocks("python")
    names = {}
    exec(loop, names)
    assert [picture.shape for picture in names["pictures"]] == 2 * [(64, 64, 3)]
    exec(api, names)
    assert names["pictures"].shape == (10, 16, 16, 3)
    assert np.all(np.asarray(names["pictures"])[:, names["known"]] == 0)
    monkeypatch.chdir(tmp_path)
    small = str(checkpoint("adm_tiny"))
    file = file.replace("celeba256_250000.pt", small)
    file = file.replace("num_head_channels=64", "num_heads=4")
    exec(file, {})
    assert (tmp_path / "celeba256.safetensors").is_file()
    exec(folder.replace("path/to/ddpm-cifar10-32", str(ROOT / "tests/golden/diffusers_tiny")), {})


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]*)", README):
        assert (ROOT / target).exists(), target


def test_the_methods_in_the_table_cost_what_it_says():
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \|", README, re.MULTILINE)
    assert len(rows) >= 4
    for text, calls in rows:
        config = base()
        config.method = text
        config = settle_walk(config)
        steps = NoiseSchedule.linear(1000).respace(config.noise.num_steps).num_steps
        walk = ResampleSchedule.create(steps, **config.resampling)
        assert round(named_method(config.method).cost(walk).sum()) == int(calls), text
