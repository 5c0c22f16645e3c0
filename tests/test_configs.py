"""The configurations in the box, and OpenAI's class-conditional pair at a reduced width."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from config_files import ROOT, load_config
from networks import random_network
from PIL import Image
from torch_zip import write_state_dict

from repaint_jax.checkpoints import CheckpointError, save
from repaint_jax.checkpoints.guided_diffusion import (
    checkpoint_shapes,
    infer_classifier_config,
    infer_config,
)
from repaint_jax.checkpoints.parameters import abstract_model
from repaint_jax.errors import ConfigError
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.models import EncoderUNet, UNet
from repaint_jax.resampling import ResampleSchedule

FOLDER = ROOT / "configs"
INPAINTING = sorted([*FOLDER.glob("*.py"), *FOLDER.glob("experiments/*.py")])
PAPER = ["celebahq256", "imagenet256", "imagenet256_uncond", "places256"]
KEYS = {
    "256x256_diffusion.pt": "imagenet256_classcond",
    "256x256_classifier.pt": "classifier256",
    **dict.fromkeys(
        ("celeba256_250000.pt", "places256_300000.pt", "256x256_diffusion_uncond.pt"),
        "celeba256_places256_imagenet256uncond",
    ),
}


def fields(config):
    return {
        name: fields(value) if hasattr(value, "items") else None for name, value in config.items()
    }


def published_shapes(golden, file):
    listed = json.loads((golden / f"keys_{KEYS[file]}.json").read_text())
    return {name: tuple(shape) for name, shape in listed.items()}


def test_all_configurations_have_the_same_fields():
    expected = fields(load_config("celeba"))
    for path in INPAINTING:
        found = fields(load_config(str(path.relative_to(FOLDER).with_suffix(""))))
        assert found == expected, path


@pytest.mark.parametrize("name", PAPER)
def test_a_configuration_of_the_paper_has_its_schedule_and_tells_what_to_fetch(
    golden, tmp_path, name, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config, header = load_config(name), (FOLDER / f"{name}.py").read_text()
    plan = ResampleSchedule.create(int(config.noise.num_steps), **config.resampling)
    assert (plan.num_steps, plan.num_model_calls) == (250, 2410)
    assert (config.noise.kind, config.noise.num_train_steps) == ("linear", 1000)
    for path, source in (
        (config.model.path, config.model.source),
        (config.model.classifier_path, config.model.classifier_source),
    ):
        if path is None:
            continue
        file = Path(path).name
        url = source.split(" from ")[1]
        parameters = sum(map(math.prod, published_shapes(golden, file).values()))
        assert source == f"{file} ({4 * parameters / 1e9:.1f} GB) from {url}"
        assert url in header.split('"""')[1]
        assert url.endswith(file) or url.startswith("https://drive.google.com/uc?id=")
    file = Path(config.model.path).name
    with pytest.raises(ConfigError) as caught:
        run_inpainting(config, tmp_path / "out")
    assert str(caught.value) == (
        f"config.model.path: there is no file models/{file}; put {config.model.source} there, "
        "or say where it is with --config.model.path=FILE"
    )
    assert not (tmp_path / "out").exists()


# OpenAI's pair with the tensors of the published one, at an eighth of the width and the side.


def narrow(golden, file, construct, infer, **changes):
    """The published names with random tensors of fewer channels."""
    published = published_shapes(golden, file)
    config = {**infer(published), "model_channels": 32, "num_head_channels": 32, **changes}
    shapes = checkpoint_shapes(abstract_model(construct, config))
    assert set(shapes) == set(published)
    rng = np.random.default_rng(len(file))
    return {name: rng.normal(0, 0.05, shape).astype("f4") for name, shape in shapes.items()}


@pytest.fixture(scope="session")
def pair(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    write_state_dict(
        folder / "256x256_diffusion.pt",
        narrow(golden, "256x256_diffusion.pt", UNet, infer_config),
    )
    write_state_dict(
        folder / "256x256_classifier.pt",
        narrow(
            golden, "256x256_classifier.pt", EncoderUNet, infer_classifier_config, image_size=32
        ),
    )
    return folder


@pytest.fixture
def config(pair, tmp_path):
    config = load_config("imagenet256")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "dog.png")
    config.image = str(tmp_path / "dog.png")
    config.model.update(
        {
            "path": str(pair / "256x256_diffusion.pt"),
            "classifier_path": str(pair / "256x256_classifier.pt"),
            "image_size": 32,
            "num_head_channels": 32,
            "class_label": 207,
            "guidance_scale": 1000.0,
        }
    )
    config.noise.num_steps = "2"
    return config


def small(folder, construct, **arguments):
    """A saved network of one level, with random weights."""
    arch = {"model_channels": 32, "channel_mult": (1,), "num_res_blocks": 1}
    arch |= {"attention_resolutions": (), "num_head_channels": 32}
    path = folder / f"{construct.__name__}.safetensors"
    save(path, random_network(construct, {**arch, **arguments}))
    return str(path)


def picture(folder):
    with Image.open(folder / "inpainted" / "dog_0.png") as opened:
        return np.array(opened)


@pytest.mark.slow
def test_the_imagenet_pair_runs_and_its_label_classifier_and_scale_matter(config, tmp_path):
    pictures = {}
    for name, changes in {
        "as it is": {},
        "unguided": {"guidance_scale": 0.0},
        "unguided, other label": {"guidance_scale": 0.0, "class_label": 208},
        "other label": {"class_label": 208},
    }.items():
        one = config.copy_and_resolve_references()
        one.model.update(changes)
        run_inpainting(one, tmp_path / name)
        pictures[name] = picture(tmp_path / name)
    for one, other in itertools.combinations(pictures, 2):
        assert not np.array_equal(pictures[one], pictures[other]), (one, other)
    as_it_is = pictures["as it is"]
    assert as_it_is.shape == (32, 32, 3)
    known = np.array(Image.open(tmp_path / "as it is" / "known_mask" / "dog.png")) == 255
    with Image.open(config.image) as original:
        assert np.array_equal(as_it_is[known], np.array(original)[known])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_label": None}, "class_label: a class from 0 to 999 is needed.*none is given"),
        ({"class_label": 1000}, "class_label: a class from 0 to 999 is needed.*not 1000"),
        ({"class_label": -1}, "class_label: a class from 0 to 999 is needed.*not -1"),
        (
            {"classifier_path": "models/256x256_classifier.pt"},
            "classifier_path: there is no file models/256x256_classifier.pt; put "
            r"256x256_classifier.pt \(0.2 GB\) from https://openaipublic.* there",
        ),
        ({"image_size": 64}, "classifier_path: .* takes 32x32 pixels .* have 64x64 and 3"),
        ({"path": "UNET", "classifier_path": ""}, "class_label: .* knows no classes; remove 207"),
        ({"classifier_path": "UNET"}, "classifier_path: .* is a diffusion model, not a classifier"),
        ({"classifier_path": "TEN"}, "classifier_path: .* knows 10 classes but the model 1000"),
    ],
)
def test_a_class_that_does_not_fit_is_refused_in_one_line(config, tmp_path, changes, message):
    files = {
        "UNET": lambda: small(tmp_path, UNet),
        "TEN": lambda: small(tmp_path, EncoderUNet, image_size=32, out_channels=10),
    }
    config.model.update(
        {name: files[value]() if value in files else value for name, value in changes.items()}
    )
    with pytest.raises(ConfigError, match=message) as caught:
        run_inpainting(config, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_network_in_the_place_of_a_classifier_file_is_refused(config, pair, tmp_path):
    config.model.classifier_path = str(pair / "256x256_diffusion.pt")
    with pytest.raises(CheckpointError, match=r"expected a tensor out\.2\.c_proj\.weight"):
        run_inpainting(config, tmp_path / "out")


def test_a_classifier_steers_a_network_that_knows_no_classes(config, tmp_path):
    config.model.path = small(tmp_path, UNet)
    classifier = small(tmp_path, EncoderUNet, image_size=32, out_channels=3)
    pictures = []
    for label, scale, path in ((0, 1e3, True), (2, 1e3, True), (2, 0.0, True), (None, 0.0, False)):
        config.model.update({"class_label": label, "guidance_scale": scale})
        config.model.classifier_path = classifier if path else ""
        run_inpainting(config, tmp_path / "out")
        pictures.append(picture(tmp_path / "out"))
    one, other, unguided, without = pictures
    assert not np.array_equal(one, other)
    assert not np.array_equal(other, unguided)
    assert np.array_equal(unguided, without)
