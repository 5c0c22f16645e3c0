"""What surrounds the code says the same as the code: versions, the site, the notebook."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import repaint_jax
from repaint_jax.__main__ import commands

ROOT = Path(__file__).parent.parent
PINNED = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.M))


def read(name):
    return (ROOT / name).read_text()


def test_the_versions_of_the_checks_are_those_that_the_readme_names():
    matrix = yaml.safe_load(read(".github/workflows/tests.yml"))["jobs"]["tests"]["strategy"][
        "matrix"
    ]
    flax = {row["jax"]: row["flax"] for row in matrix["include"]}
    assert flax[PINNED["jax"]] == PINNED["flax"]
    tested = re.search(r"The pinned versions are the tested.*?\n\n", read("README.md"), re.S)[0]
    for jax in matrix["jax"]:
        assert f"JAX {jax}, Flax {flax[jax]}" in " ".join(tested.split())
    for python in matrix["python"]:
        assert f"Python {python}" in tested
        assert f'"Programming Language :: Python :: {python}"' in read("pyproject.toml")
    assert f"python:{matrix['python'][0]}-" in read("Dockerfile")


def test_the_citation_is_of_this_version():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == repaint_jax.__version__


def test_the_guide_names_every_extra_and_every_command():
    guide = read("docs/installing.md")
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    assert {name for name in extras if f"[{name}]" in guide} == {*extras} - {"dev"}
    assert all(f"`{name}`" in guide for name in commands())


def test_the_site_has_every_guide_and_every_public_name():
    pages = {page for entry in yaml.safe_load(read("mkdocs.yml"))["nav"] for page in entry.values()}
    docs = ROOT / "docs"
    assert {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} <= pages
    shown = set(re.findall(r"\w+", read("docs/reference.md")))
    assert shown >= set(repaint_jax.__all__)


def test_the_site_builds_without_a_warning(tmp_path):
    build = pytest.importorskip("mkdocs.commands.build").build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    assert "repaint_jax.trajectory.inpaint" in (tmp_path / "reference/index.html").read_text()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(read("notebooks/inpaint.ipynb"))["cells"]
    blocks = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    names = {}
    for block in blocks:
        quick = block.replace('num_steps="30,8,8,7"', "num_steps=4").replace(
            "num_samples=10", "num_samples=2"
        )
        exec(re.sub(r"^( *)%pip .*", r"\1pass", quick, flags=re.M), names)
    assert names["progress"].total == names["sampler"].total_calls == 6
    assert names["pictures"].shape == (4, 64, 64, 3)
    hole = ~names["known"]
    assert len({picture[hole].tobytes() for picture in names["pictures"]}) == 4
    assert np.ptp(names["pictures"][0][hole]) > 50
