"""The package that is installed: what is in it, what it needs, and that it works elsewhere."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

import repaint_jax

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = {"repaint_jax": "repaint_jax", "configs": "repaint_jax/configs"}
FOLDERS["benchmarks"] = "repaint_jax/benchmarks"  # in a clone, and in the wheel


def run(*command, cwd=None):
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=cwd, env={**settings, "JAX_PLATFORMS": "cpu", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def pip(*arguments):
    done = run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the clone, in which nothing that an earlier build left can be."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "clone" / name, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder / "clone")
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", folder, folder / "clone")
    (path,) = folder.glob("*.whl")
    return path


def listing(folder):
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


def test_all_of_the_package_is_in_the_wheel_and_nothing_else(wheel):
    expected = {
        f"{there}/{path.relative_to(ROOT / here).as_posix()}"
        for here, there in FOLDERS.items()
        for path in (ROOT / here).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_says_whose_it_is_and_under_which_licences(wheel):
    with zipfile.ZipFile(wheel) as archive:
        texts = {name.split("/", 1)[1]: archive.read(name).decode() for name in archive.namelist()
                 if ".dist-info/" in name}  # fmt: skip
    about = message_from_string(texts["METADATA"])
    assert about["Version"] == repaint_jax.__version__
    expression = about["License-Expression"]
    assert expression.startswith("Apache-2.0 AND ")
    assert "LicenseRef-CelebA-NonCommercial" in expression
    assert about["Author"]
    for weights in (ROOT / "repaint_jax").rglob("*.safetensors"):
        assert weights.name in texts["licenses/NOTICE"], weights
    assert "Apache License" in texts["licenses/LICENSE"]


@pytest.mark.slow
def test_it_works_in_another_folder_and_uninstalled_leaves_nothing(wheel, tmp_path):
    venv, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    (site,) = venv.glob("lib/python*/site-packages")
    before, python = listing(venv), venv / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    # What it needs, but not the clone: of a folder that a .pth file names no .pth file is run.
    others = site / "others.pth"
    others.write_text(sysconfig.get_path("purelib"))
    done = run(
        venv / "bin" / "repaint-jax", "inpaint", "--config=fashion_mnist",
        "--config.noise.num_steps=2", "--config.num_samples=1", cwd=work,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((work / "out" / "fashion_mnist" / "inpainted").iterdir())) == 10
    assert json.loads((work / "out/fashion_mnist/config.json").read_text())["image"].startswith(
        str(site)
    )
    done = run(python, "-m", "repaint_jax", "benchmark", "--help", cwd=work)
    assert "--network: adm" in done.stdout, done.stderr
    others.unlink()
    pip("--python", python, "uninstall", "--yes", "repaint-jax")
    assert listing(venv) == before


# ---------------------------------------------------------------- what it needs

# Modules that come with extras and with nothing of the core.
OPTIONAL = ("PIL", "filelock", "grain", "huggingface_hub", "jinja2", "matplotlib", "ml_collections",
            "skimage", "starlette", "tensorboardX", "tqdm", "uvicorn")  # fmt: skip
WITHOUT = """
import sys
sys.modules.update(dict.fromkeys({hidden!r}))  # as if they were not installed
"""


def without(hidden, code, cwd):
    return run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})"
               + WITHOUT.format(hidden=hidden) + code, cwd=cwd)  # fmt: skip


def test_arrays_are_inpainted_without_any_extra(tmp_path):
    code = """
import numpy as np
import repaint_jax
pipeline = repaint_jax.load_pipeline("fashion_mnist")
known = np.arange(28)[None, :] < np.full((28, 1), 14)
sampler = pipeline.sampler(num_steps=2, jump_length=1, num_resamples=1)
image = np.zeros((28, 28, 1), np.uint8)
print(pipeline.inpaint(image, known, num_samples=2, sampler=sampler).shape)
"""
    done = without(OPTIONAL, code, tmp_path)
    assert done.stdout == "(2, 28, 28, 1)\n", done.stderr


@pytest.mark.parametrize(
    ("module", "hidden", "extra"),
    [
        ("repaint_jax.pictures.masks", "PIL", "pictures"),
        ("repaint_jax.pictures.images", "skimage", "pictures"),
        ("repaint_jax.inpainting.run", "ml_collections", "cli"),
        ("repaint_jax.commands.inpaint", "tqdm", "cli"),
        ("repaint_jax.evaluation.run", "jinja2", "evaluation"),
        ("repaint_jax.training.run", "optax", "training"),
        ("repaint_jax.commands.serve", "uvicorn", "web"),
    ],
)
def test_an_import_that_lacks_its_extra_says_which(module, hidden, extra, tmp_path):
    error = without([hidden], f"import {module}", tmp_path).stderr.splitlines()[-1]
    assert error.endswith(
        f"this needs {hidden}, which is not installed: pip install 'repaint-jax[{extra}]'"
    )


def test_a_command_that_lacks_its_extra_says_so_in_one_line(tmp_path):
    code = "import repaint_jax.__main__; sys.argv[1:] = ['inpaint']; repaint_jax.__main__.main()"
    done = without(["filelock"], code, tmp_path)
    assert done.stderr == (
        "error: this needs filelock, which is not installed: pip install 'repaint-jax[cli]'\n"
    )


def test_every_import_of_the_package_is_of_a_package_that_it_names():
    extras = PROJECT["optional-dependencies"]
    named = [*PROJECT["dependencies"], *(each for name in extras for each in extras[name])]
    distributions = {re.split(r"[>=<;\[ ]", each)[0].lower().replace("_", "-") for each in named}
    modules = {"pillow": "PIL", "scikit-image": "skimage", "absl-py": "absl",
               "orbax-checkpoint": "orbax"}  # fmt: skip
    known = {modules.get(name, name.replace("-", "_")).lower() for name in distributions}
    known |= {"onednn", *(name.lower() for name in sys.stdlib_module_names)}
    for path in (ROOT / "repaint_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module)
            for name in names:
                assert name.split(".")[0].lower() in known, (path, name)
