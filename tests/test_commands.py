"""The command repaint-jax: its commands, the configurations that come along, its version."""

import subprocess
import sys

import pytest
from config_files import ROOT

import repaint_jax


def command(*arguments, cwd, start=("-m", "repaint_jax"), timeout=None):
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip


def test_the_version_names_what_it_stands_on(tmp_path):
    import jax

    done = command("--version", cwd=tmp_path)
    assert done.stdout.startswith(f"repaint-jax {repaint_jax.__version__} (jax {jax.__version__}, ")


def test_without_a_command_they_are_listed_and_a_wrong_one_is_named(tmp_path):
    listed = command(cwd=tmp_path).stdout
    lines = [line.split(maxsplit=1) for line in listed.splitlines() if line.startswith("  ")]
    scripts = {path.stem.replace("_", "-") for path in (ROOT / "scripts").glob("*.py")}
    assert {name for name, _ in lines} == {*scripts, "--version"} > {"inpaint", "plot-schedule"}
    assert all(about.endswith(".") for _, about in lines)
    wrong = command("impaint", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: there is no command 'impaint'; there are benchmark, ")


def test_a_bare_name_is_a_configuration_of_the_package_and_a_path_a_file(tmp_path):
    (tmp_path / "celeba32").mkdir()  # as a folder of faces may be called
    mine = tmp_path / "mine.py"
    mine.write_text((ROOT / "configs" / "celeba32.py").read_text())
    pictures = []
    for given in ("celeba32", str(ROOT / "configs" / "celeba32.py"), "mine.py"):
        done = command("plot-schedule", f"--config={given}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        pictures.append((tmp_path / done.stdout.strip()).read_bytes())
    assert done.stdout.strip() == "out/mine/schedule.png"
    assert pictures[0] == pictures[1] == pictures[2]


@pytest.mark.slow
def test_two_batches_with_linear_algebra_in_their_steps_do_not_wait_for_each_other(tmp_path):
    """Whose LAPACK calls once held all of XLA's threads, where there are two."""
    walk = "--config.method=quasi_newton:logsnr8"
    many = ("--config.num_samples=40", "--config.batch_size=20")
    done = command("inpaint", "--config=celeba32", walk, *many, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "celeba32" / "inpainted").iterdir())) == 40


@pytest.mark.parametrize("flag", [("--config=celebb",), ("--config", "celebb")])
def test_an_unknown_name_lists_those_there_are(flag, tmp_path):
    done = command("inpaint", *flag, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --config: there is no configuration 'celebb'; give a ")
    assert "celeba32" in done.stderr
    assert "train/folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["inpaint", "evaluate", "serve", "train", "plot-schedule"])
def test_help_shows_the_commands_own_flags_as_it_was_started(name, tmp_path):
    path = f"scripts/{name.replace('-', '_')}.py"
    installed = command(name, "--help", cwd=tmp_path).stdout
    script = command("--help", cwd=ROOT, start=(path,)).stdout
    assert f"repaint-jax {name} --config=" in installed
    assert f"python {path} --config=" in script
    flags = {"evaluate": "--masks:", "inpaint": "--save_minutes:", "serve": "--port:"}
    own = flags.get(name, "--workdir:")
    for shown in (installed, script):
        assert own in shown
        assert "Fields of a configuration:" in shown
