"""The guide to one's own model does what it says."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

GUIDE = Path(__file__).parent.parent / "docs" / "bring_your_own_model.md"
SECTIONS = dict(re.findall(r"^#+ (.*?)\n(.*?)(?=^## |\Z)", GUIDE.read_text(), re.S | re.M))
TORCH = "PyTorch, behind a callback"


def run(section, names):
    """The section's code blocks; `names["pictures"]` afterwards, if it made any."""
    names.pop("pictures", None)
    for block in re.findall(r"```python\n(.*?)```", SECTIONS[section], re.S):
        exec(block, names)
    return names.get("pictures")


def check(pictures, setting):
    known = np.asarray(setting["known"])
    assert pictures.shape == (2, 16, 16, 3)
    assert np.isfinite(pictures).all()
    assert np.all(np.asarray(pictures)[:, known] == 0)
    assert not np.any(np.asarray(pictures)[:, ~known] == 0)


def test_every_section_is_run_by_a_test_and_every_link_leads_somewhere():
    assert [name for name, text in SECTIONS.items() if "```python" in text] == [
        "Bring your own model", "A JAX function", "Flax Linen", "Flax NNX", TORCH,
        "Does it speak the same language?", "Models of x_0 and of v",
        "Denoisers of EDM, and flows", "Classes",
    ]  # fmt: skip
    for target in re.findall(r"\]\((?!https?:)([^)#]*)", GUIDE.read_text()):
        assert (GUIDE.parent / target).exists(), target


@pytest.mark.slow
def test_the_blocks_run_one_after_the_other(capsys):
    names = {}
    for section in SECTIONS:
        if section == TORCH:
            continue
        pictures = run(section, names)
        if section == "Models of x_0 and of v":
            assert pictures.shape == (2, 16, 16, 3)
        elif pictures is not None:
            check(pictures, names["setting"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["300", "500", "700"]
    sentence = SECTIONS["Does it speak the same language?"].split("distance from the noise is")[1]
    told = [float(number) for number in re.findall(r"0\.\d+", sentence)]
    distances = [dict(eval(line.split(maxsplit=1)[1])) for line in printed]
    np.testing.assert_allclose([each["noise"] for each in distances], told[:3], atol=0.006)
    assert min(min(each["x_0"], each["v"]) for each in distances) > told[3]


def test_a_torch_model_is_called_once_a_step_with_the_whole_batch():
    pytest.importorskip("torch")
    names = {}
    run("Bring your own model", names)
    check(run(TORCH, names), names["setting"])
    seen, on_torch = [], names["on_torch"]

    def watched(x, t):
        seen.append((x.shape, t.shape))
        return on_torch(x, t)

    names["on_torch"] = watched
    setting = names["setting"]
    again = names["inpaint_batch"](names["keys"], lambda x, t: names["model"](x, t), **setting)
    np.testing.assert_allclose(again, names["pictures"], atol=1e-5)
    assert seen == [((2, 1, 16, 16, 3), (2, 1))] * setting["resampling"].num_model_calls
    plain = names["model"](jnp.zeros((3, 16, 16, 3)), jnp.zeros(3, jnp.int32))
    assert plain.shape == (3, 16, 16, 3)
