"""From a configuration to a model, its noise schedule, a walk, and how to sample."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from repaint_jax.checkpoints import (
    CheckpointError,
    load,
    load_about,
    load_guided_diffusion,
    load_guided_diffusion_classifier,
)
from repaint_jax.checkpoints.diffusers import diffusers_about, load_diffusers_unet
from repaint_jax.checkpoints.diffusers_files import diffusers_folder, is_hub_name
from repaint_jax.denoisers import Denoiser, noise_predictor
from repaint_jax.guidance import guided, with_label
from repaint_jax.models import EncoderUNet, UNet, UNet2DModel
from repaint_jax.models.layers import in_computing_dtype
from repaint_jax.resampling import ResampleSchedule
from repaint_jax.runtime.files import expanded, fingerprint
from repaint_jax.schedules import SCHEDULES, NoiseSchedule, described_schedule

LARGEST_SIDE = 8192  # of a picture
WEIGHTS = Path(__file__).parent / "weights"  # the models in the box


class ConfigError(ValueError):
    """A configuration cannot be run; the message names the field, the fault and the mend."""


@dataclass(frozen=True)
class Setup:
    """A model and the pictures it takes."""

    model: Denoiser
    shape: tuple[int, int]  # height and width
    channels: int


def build_setup(config: ConfigDict, about: dict[str, Any]) -> Setup:
    """The model that is sampled: the network of `config.model`, its class settled."""
    setup = build_model(config.model, about)
    return settle_class(config.model, setup, about, trained_noise(config.noise, about))


def build_model(config: ConfigDict, about: dict[str, Any]) -> Setup:
    """The network of `config.model`, whose file says `about` of its training."""
    path = _model_path(config)
    dtype = _dtype(config)
    model: Any
    if path.is_dir():
        model = load_diffusers_unet(path, dtype=dtype)
    elif path.suffix == ".safetensors":
        model = load(path, dtype=dtype)
    else:
        model = load_guided_diffusion(
            path,
            num_heads=config.num_heads,
            num_head_channels=config.num_head_channels,
            use_new_attention_order=config.use_new_attention_order,
            dtype=dtype,
        )
    if not isinstance(model, UNet | UNet2DModel):
        raise ConfigError(f"config.model.path: {path} is a classifier, not a diffusion model")
    channels = model.config["in_channels"]
    if channels not in (1, 3):
        raise ConfigError(
            f"config.model.path: {path} takes {channels} channels; pictures have 1 or 3"
        )
    if model.config.get("class_embed_type") is not None:
        raise ConfigError(
            f"config.model.path: {path} takes classes that are not numbers, class_embed_type "
            f"{model.config['class_embed_type']!r}; wrap it in Python as model(x, t), call inpaint"
        )
    model = in_computing_dtype(model)
    return Setup(model, picture_shape(config.image_size, about, model.downsampling), channels)


def picture_shape(asked: Any, about: dict[str, Any], factor: int) -> tuple[int, int]:
    """(height, width) of the pictures, as asked or else as the network was trained.

    Args:
        asked: `config.model.image_size`, a side or (height, width); None or 0 for the training's.
        about: what the model's file says of its training.
        factor: of which the network takes multiples.

    Warns:
        UserWarning: when the network is known, or likely, to have been trained on another shape.
    """
    field = "config.model.image_size"
    trained = about.get("image_size")
    size = asked or trained
    if size is None:
        raise ConfigError(
            f"{field}: the model's file does not tell the side of its training pictures; set it, "
            f"for instance --{field}=256"
        )
    shape = (size, size) if isinstance(size, int) else size
    if not isinstance(shape, tuple | list) or [type(side) for side in shape] != [int, int]:
        raise ConfigError(f"{field}: a side such as 256 or height,width as 256,384; not {size!r}")
    if wrong := sorted({side for side in shape if side < factor or side % factor}):
        below = [side // factor * factor for side in wrong]
        near = {max(factor, side + more) for side in below for more in (0, factor)}
        raise ConfigError(
            f"{field}: this network takes multiples of {factor} pixels, not "
            f"{' and '.join(map(str, wrong))}; near by are {', '.join(map(str, sorted(near)))}"
        )
    height, width = shape
    if max(shape) > LARGEST_SIDE:
        raise ConfigError(f"{field}: at most {LARGEST_SIDE} pixels a side, not {max(shape)}")
    usual = (trained, trained) if isinstance(trained, int) else tuple(trained or (height, height))
    if (height, width) != usual:
        warnings.warn(
            f"{field}: pictures of {height}x{width} (height x width), but the network was trained "
            f"on {f'{usual[0]}x{usual[1]}' if trained else 'squares, as most are'}: expect it to "
            "repeat or misplace what it knows",
            stacklevel=2,
        )
    return height, width


def settle_class(
    config: ConfigDict, setup: Setup, about: dict[str, Any], noise: NoiseSchedule
) -> Setup:
    """Makes a noise predictor of one class of the network.

    Gives it its `class_label`, and the classifier that steers to it.

    Args:
        config: the section `model`.
        setup: by `build_model`.
        about: what the model's file says of its training, as what it predicts.
        noise: the schedule of the training.
    """
    model, label = setup.model, config.class_label
    prediction = about.get("prediction", "noise")
    classifier = build_classifier(config, setup) if config.classifier_path else None
    counts: list[int | None] = [
        getattr(model, "num_classes", None),
        None if classifier is None else classifier.arch.out_channels,
    ]
    known = {count for count in counts if count is not None}
    if not known:
        if label is not None:
            raise ConfigError(
                f"config.model.class_label: {config.path} knows no classes; remove {label}, or let "
                "a classifier of noisy pictures steer, --config.model.classifier_path=FILE"
            )
        return replace(setup, model=noise_predictor(model, prediction, noise))
    if len(known) == 2:
        raise ConfigError(
            f"config.model.classifier_path: {config.classifier_path} knows {counts[1]} classes but "
            f"the model {counts[0]}; give the classifier that belongs to it"
        )
    last = known.pop() - 1
    if label is None or not 0 <= label <= last:
        raise ConfigError(
            f"config.model.class_label: a class from 0 to {last} is needed, which the model draws "
            f"or its classifier steers to; {'none is given' if label is None else f'not {label}'}"
        )
    if counts[0] is not None:
        model = with_label(model, label)
    model = noise_predictor(model, prediction, noise)
    if classifier is not None:
        model = guided(model, classifier, label, config.guidance_scale, noise)
    return replace(setup, model=model)


def build_classifier(config: ConfigDict, setup: Setup) -> EncoderUNet:
    """The classifier of noisy pictures that `config.model` names."""
    field = "config.model.classifier_path"
    path = _existing(
        field, config.classifier_path, config.classifier_source, "give a .safetensors or .pt file"
    )
    if path.suffix == ".safetensors":
        classifier = load(path, dtype=_dtype(config))
    else:
        classifier = load_guided_diffusion_classifier(
            path, num_head_channels=config.num_head_channels, dtype=_dtype(config)
        )
    if not isinstance(classifier, EncoderUNet):
        raise ConfigError(f"{field}: {path} is a diffusion model, not a classifier")
    side, channels = classifier.arch.image_size, classifier.arch.in_channels
    if (side, side, channels) != (*setup.shape, setup.channels):
        height, width = setup.shape
        raise ConfigError(
            f"{field}: {path} takes {side}x{side} pixels and {channels} channels, but the pictures "
            f"have {height}x{width} and {setup.channels}; change config.model.image_size or leave "
            "the classifier out"
        )
    return in_computing_dtype(classifier)


def build_schedules(config: ConfigDict, about: dict) -> tuple[NoiseSchedule, ResampleSchedule]:
    """The respaced noise schedule and the walk over it.

    Args:
        config: has the sections `noise` and `resampling`.
        about: what the model's file says of its training; its noise schedule binds.
    """
    noise = trained_noise(config.noise, about)
    with config_errors("config.noise"):
        noise = noise.respace(config.noise.num_steps)
    with config_errors("config.resampling"):
        return noise, ResampleSchedule.create(noise.num_steps, **config.resampling)


def trained_noise(config: ConfigDict, about: dict) -> NoiseSchedule:
    """The noise schedule of the model's training, from `config.noise` and the model's file."""
    trained = about.get("noise", {})
    asked = {k: config[k] for k in ("kind", "num_train_steps") if config[k] is not None}
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
    return build_noise(**used)


def build_noise(kind: str, num_train_steps: int, **more: Any) -> NoiseSchedule:
    """The schedule of a training, as `config.noise` or the model's file names it."""
    if kind not in SCHEDULES and "betas" not in more:
        raise ConfigError(f"config.noise.kind: one of {', '.join(SCHEDULES)}, not {kind!r}")
    with config_errors("config.noise.num_train_steps"):
        try:
            return described_schedule(kind, num_train_steps, **more)
        except (OverflowError, TypeError) as error:  # a model's file may say anything
            raise ValueError(str(error)) from error


def build_sampler(config: ConfigDict, about: dict[str, Any]) -> dict[str, Any]:
    """The section `sampler`; what it leaves open is as the model's file says, or the default."""
    default = {"clip_denoised": True, "variance": "fixed_small", **about.get("sampler", {})}
    sampler = {field: default[field] if value is None else value for field, value in config.items()}
    variance, eta = sampler["variance"], sampler["eta"]
    if variance not in ("fixed_small", "fixed_large"):
        raise ConfigError(f"config.sampler.variance: fixed_small or fixed_large, not {variance!r}")
    if not 0 <= eta <= 1:
        raise ConfigError(f"config.sampler.eta: from 0 (DDIM) to 1 (DDPM), not {eta}")
    return sampler


def model_about(config: ConfigDict) -> dict[str, Any]:
    """What the model's file says of its training; nothing for guided-diffusion's."""
    path = _model_path(config)
    if path.is_dir():
        return diffusers_about(path)
    return _sound(load_about(path), path) if path.suffix == ".safetensors" else {}


def _sound(about: dict[str, Any], path: Path) -> dict[str, Any]:
    """What a native file says of its training, if something can be made of it."""
    size, noise = about.get("image_size"), about.get("noise", {})
    sides = size if isinstance(size, list) else [size, size]
    if (
        (size is None or [type(side) for side in sides] == [int, int])
        and isinstance(noise, dict)
        and isinstance(noise.get("kind", ""), str)
        and about.get("prediction", "noise") in ("noise", "x0", "v")
        and isinstance(about.get("sampler", {}), dict)
    ):
        return about
    raise CheckpointError(
        f"{path}: nothing can be made of what it says of its training, {about}: save it again with "
        "image_size=256 and noise={'kind': 'linear', 'num_train_steps': 1000}, or what is right"
    )


def model_fingerprint(config: ConfigDict) -> str:
    """Tells the weights that `config.model` names from others."""
    path = _model_path(config)
    if not config.classifier_path:
        return fingerprint(path)
    return fingerprint(path) + fingerprint(expanded(config.classifier_path))


def refuse_changes(
    before: dict[str, Any], now: dict[str, Any], fields: Iterable[str], holds: str, mend: str
) -> None:
    """Raises ConfigError for the first of `fields` in which two configurations differ.

    Args:
        before: the configuration of what is there, as JSON has it.
        now: the one that is asked for.
        fields: those that bind.
        holds: what is there, "out/mine holds a run".
        mend: how to go on otherwise.
    """
    for field in fields:
        if before.get(field) != now.get(field):
            raise ConfigError(
                f"config.{field}: {holds} with {before.get(field)!r}, not {now.get(field)!r}; put "
                f"it back to go on, or {mend}"
            )


def _model_path(config: ConfigDict) -> Path:
    """What config.model.path names: a file, a model in the box without its suffix, or a folder."""
    if not config.path:
        raise ConfigError("config.model.path: no checkpoint is given; set --config.model.path=FILE")
    boxed = WEIGHTS / f"{config.path}.safetensors"
    if boxed.is_file():
        return boxed
    path = expanded(config.path)
    if path.is_dir() or (is_hub_name(config.path) and not path.is_file()):
        return diffusers_folder(config.path)
    names = ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors")))
    return _existing(
        "config.model.path",
        config.path,
        config.source,
        f"give a .safetensors or .pt file, a folder or hub name of diffusers, or a "
        f"model in the box: {names}",
    )


def _existing(field: str, name: str, source: str | None, mend: str) -> Path:
    """The file `name`, or an error that tells `source`, where to get it, or else the mend."""
    path = expanded(name)
    if not path.is_file():
        if source:
            mend = f"put {source} there, or say where it is with --{field}=FILE"
        raise ConfigError(f"{field}: there is no file {path}; {mend}")
    return path


def _dtype(config: ConfigDict) -> Any:
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if config.dtype not in dtypes:
        raise ConfigError(f"config.model.dtype: float32 or bfloat16, not {config.dtype!r}")
    return dtypes[config.dtype]


@contextmanager
def config_errors(section: str) -> Iterator[None]:
    """Names the configuration's section in what the library says of its values."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        raise ConfigError(f"{section}: {error}") from error
