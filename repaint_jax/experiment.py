"""From a configuration to its objects, and a run of them. Only this module knows configurations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from repaint_jax import images, masks, plots
from repaint_jax.checkpoints import load, load_about, load_guided_diffusion
from repaint_jax.checkpoints.diffusers import (
    diffusers_about,
    diffusers_folder,
    is_hub_name,
    load_diffusers_unet,
)
from repaint_jax.denoisers import Denoiser, noise_predictor
from repaint_jax.models import UNet, UNet2DModel
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.results import Results
from repaint_jax.sampling import Task, sample
from repaint_jax.schedules import SCHEDULES, NoiseSchedule, described_schedule

WEIGHTS = Path(__file__).parent / "weights"  # the models in the box


class ConfigError(ValueError):
    """A configuration cannot be run; the message names the field, the fault and the mend."""


def run_inpainting(config: ConfigDict, workdir: Path) -> None:
    """Inpaints what `config` says and writes everything about it into `workdir`.

    Nothing is written before all inputs have been read and found good.

    Raises:
        ConfigError, ImageError, CheckpointError, OSError: one line that says what to mend.
    """
    _check_numbers(config)
    about = _about(config.model)
    noise, plan = build_schedules(config, about)
    setup = build_model(config.model, about)
    tasks = build_tasks(config, setup)
    results = Results(workdir, config.to_json_best_effort(indent=2))
    results.save_inputs(tasks)
    with config_errors("config.model"):
        sampled = sample(
            tasks,
            setup.model,
            noise=noise,
            resampling=plan,
            num_samples=config.num_samples,
            batch_size=config.batch_size,
            seed=config.seed,
            on_picture=results.save_sample,
            **build_sampler(config.sampler, about),
        )
    results.finish(tasks, sampled, plan)


def run_schedule_plot(config: ConfigDict, workdir: Path) -> None:
    """Draws the resample schedule of `config` into `workdir`/schedule.png."""
    _, plan = build_schedules(config, _about(config.model))
    path = workdir / "schedule.png"
    plots.plot_schedule(plan, path)
    print(path)


@dataclass(frozen=True)
class Setup:
    """A model and the pictures it takes."""

    model: Denoiser
    image_size: int
    channels: int


def build_model(config: ConfigDict, about: dict[str, Any]) -> Setup:
    """The network of `config.model`, whose file says `about` of its training."""
    path = _model_path(config)
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if config.dtype not in dtypes:
        raise ConfigError(f"config.model.dtype: float32 or bfloat16, not {config.dtype!r}")
    model: Any
    if path.is_dir():
        model = load_diffusers_unet(path, dtype=dtypes[config.dtype])
    elif path.suffix == ".safetensors":
        model = load(path, dtype=dtypes[config.dtype])
    else:
        model = load_guided_diffusion(
            path,
            num_heads=config.num_heads,
            num_head_channels=config.num_head_channels,
            use_new_attention_order=config.use_new_attention_order,
            dtype=dtypes[config.dtype],
        )
    if not isinstance(model, UNet | UNet2DModel):
        raise ConfigError(f"config.model.path: {path} is a classifier, not a diffusion model")
    channels = model.config["in_channels"]
    if channels not in (1, 3):
        raise ConfigError(
            f"config.model.path: {path} takes {channels} channels; pictures have 1 or 3"
        )
    if model.num_classes is not None or model.config.get("class_embed_type") is not None:
        raise ConfigError(
            f"config.model.path: {path} is class-conditional; wrap it in Python as "
            "model(x, t) with a label of your choice, and call inpaint"
        )
    size = config.image_size or about.get("image_size")
    if size is None:
        raise ConfigError(
            f"config.model.image_size: {path} does not tell the side of its training pictures; "
            "set it, for instance --config.model.image_size=256"
        )
    if size < 1 or size % model.downsampling:
        raise ConfigError(
            f"config.model.image_size: this network takes multiples of {model.downsampling} "
            f"pixels, not {size}"
        )
    if about.get("prediction", "noise") != "noise":
        with config_errors("config.model.path"):
            trained = described_schedule(**about["noise"])
            return Setup(noise_predictor(model, about["prediction"], trained), size, channels)
    return Setup(model, size, channels)


def build_schedules(config: ConfigDict, about: dict) -> tuple[NoiseSchedule, ResampleSchedule]:
    """The respaced noise schedule and the walk over it.

    Args:
        config: has the sections `noise` and `resampling`.
        about: what the model's file says of its training; its noise schedule binds.
    """
    trained = about.get("noise", {})
    asked = {k: config.noise[k] for k in ("kind", "num_train_steps") if config.noise[k] is not None}
    for field, value in asked.items():
        if trained.get(field, value) != value:
            raise ConfigError(
                f"config.noise.{field}: the model was trained with {trained[field]!r}, and no "
                f"other schedule fits its weights; remove {value!r}"
            )
    used = {**trained, **asked}
    for field in ("kind", "num_train_steps"):
        if field not in used:
            raise ConfigError(
                f"config.noise.{field}: the model's file does not tell its noise schedule; set "
                "the one of its training, for instance --config.noise.kind=linear "
                "--config.noise.num_train_steps=1000"
            )
    noise = build_noise(**used)
    with config_errors("config.noise"):
        noise = noise.respace(config.noise.num_steps)
    with config_errors("config.resampling"):
        return noise, ResampleSchedule.create(noise.num_steps, **config.resampling)


def build_noise(kind: str, num_train_steps: int, **more: Any) -> NoiseSchedule:
    """The schedule of a training, as `config.noise` or the model's file names it."""
    if kind not in SCHEDULES and "betas" not in more:
        raise ConfigError(f"config.noise.kind: one of {', '.join(SCHEDULES)}, not {kind!r}")
    with config_errors("config.noise.num_train_steps"):
        return described_schedule(kind, num_train_steps, **more)


def build_sampler(config: ConfigDict, about: dict[str, Any]) -> dict[str, Any]:
    """The section `sampler`; what it leaves open is as the model's file says, or the default."""
    default = {"clip_denoised": True, "variance": "fixed_small", **about.get("sampler", {})}
    return {field: default[field] if value is None else value for field, value in config.items()}


def build_tasks(config: ConfigDict, setup: Setup) -> list[Task]:
    """The pictures with their masks, at the size the model takes."""
    shape = (setup.image_size, setup.image_size)
    if not config.image:
        raise ConfigError("config.image: no picture is given; set --config.image=FILE or a folder")
    if config.image == "astronaut":
        paths = [Path("astronaut")]
        pictures = [images.astronaut(size=shape, channels=setup.channels)]
    else:
        paths = images.find_images(config.image)
        pictures = [images.load_image(p, size=shape, channels=setup.channels) for p in paths]
    if config.mask in masks.MASKS:
        with config_errors("config.mask"):
            # A stream for each picture, so that its mask does not depend on those before it.
            known = [
                masks.MASKS[config.mask](shape, np.random.default_rng([config.seed, i]))
                ^ config.invert_mask
                for i in range(len(paths))
            ]
    else:
        files = images.pair_masks(paths, _find_masks(config.mask))
        square = config.image == "astronaut"  # and no file whose sides a mask could have
        known = [
            images.load_mask(
                file,
                shape,
                source_shape=None if square else images.image_shape(path),
                invert=config.invert_mask,
            )
            for file, path in zip(files, paths, strict=True)
        ]
    return [
        Task(name, picture, mask)
        for name, picture, mask in zip(_names(paths), pictures, known, strict=True)
    ]


def _find_masks(pattern: str) -> list[Path]:
    """Mask files; a name that is neither a file nor a generator is most likely a typing error."""
    try:
        return images.find_images(pattern)
    except images.ImageError as error:
        raise ConfigError(
            f"config.mask: expected one of {', '.join(masks.MASKS)}, or a file or folder: {error}"
        ) from error


def _names(paths: list[Path]) -> list[str]:
    """A name for each picture's results: its stem, or where that is not unique, its file name."""
    stems = [path.stem for path in paths]
    names = [
        path.name.replace(".", "_") if stems.count(path.stem) > 1 else path.stem for path in paths
    ]
    for name, path in zip(names, paths, strict=True):
        if names.count(name) > 1:
            raise ConfigError(
                f"config.image: two pictures are called {path.name}, so that their results would "
                "overwrite each other; inpaint one folder at a time or rename one"
            )
    return names


def _model_path(config: ConfigDict) -> Path:
    """What config.model.path names: a file, a model in the box without its suffix, or a folder."""
    if not config.path:
        raise ConfigError("config.model.path: no checkpoint is given; set --config.model.path=FILE")
    boxed = WEIGHTS / f"{config.path}.safetensors"
    if boxed.is_file():
        return boxed
    path = Path(config.path).expanduser()
    if path.is_dir() or (is_hub_name(config.path) and not path.is_file()):
        return diffusers_folder(config.path)
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors")))
        raise ConfigError(
            f"config.model.path: there is no file {path}; give a .safetensors or .pt file, a "
            f"folder or hub name of diffusers, or a model in the box: {names}"
        )
    return path


def _about(config: ConfigDict) -> dict[str, Any]:
    """What the model's file says of its training; nothing for guided-diffusion's."""
    path = _model_path(config)
    if path.is_dir():
        return diffusers_about(path)
    return load_about(path) if path.suffix == ".safetensors" else {}


def _check_numbers(config: ConfigDict) -> None:
    for field in ("num_samples", "batch_size"):
        if config[field] < 1:
            raise ConfigError(f"config.{field}: at least 1, not {config[field]}")
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"config.seed: from 0 to {2**32 - 1}, not {config.seed}")
    sampler = config.sampler
    if sampler.variance not in (None, "fixed_small", "fixed_large"):
        raise ConfigError(
            f"config.sampler.variance: fixed_small or fixed_large, not {sampler.variance!r}"
        )
    if not 0 <= sampler.eta <= 1:
        raise ConfigError(f"config.sampler.eta: from 0 (DDIM) to 1 (DDPM), not {sampler.eta}")


@contextmanager
def config_errors(section: str) -> Iterator[None]:
    """Names the configuration's section in what the library says of its values."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise ConfigError(f"{section}: {error}") from error
