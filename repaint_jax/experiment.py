"""From a configuration to its objects, and a run of them. Only this module knows configurations."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from repaint_jax import images, masks, plots
from repaint_jax.checkpoints import (
    load,
    load_about,
    load_guided_diffusion,
    load_guided_diffusion_classifier,
)
from repaint_jax.checkpoints.diffusers import (
    diffusers_about,
    diffusers_folder,
    is_hub_name,
    load_diffusers_unet,
)
from repaint_jax.denoisers import Denoiser, noise_predictor
from repaint_jax.guidance import guided, with_label
from repaint_jax.models import EncoderUNet, UNet, UNet2DModel
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
    check_numbers(config)
    about = model_about(config.model)
    noise, plan = build_schedules(config, about)
    setup = build_setup(config, about)
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
    _, plan = build_schedules(config, model_about(config.model))
    path = workdir / "schedule.png"
    plots.plot_schedule(plan, path)
    print(path)


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
    return classifier


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
        return described_schedule(kind, num_train_steps, **more)


def build_sampler(config: ConfigDict, about: dict[str, Any]) -> dict[str, Any]:
    """The section `sampler`; what it leaves open is as the model's file says, or the default."""
    default = {"clip_denoised": True, "variance": "fixed_small", **about.get("sampler", {})}
    return {field: default[field] if value is None else value for field, value in config.items()}


def build_tasks(config: ConfigDict, setup: Setup) -> list[Task]:
    """The pictures with their masks, at the size the model takes."""
    shape = setup.shape
    if not config.image:
        raise ConfigError("config.image: no picture is given; set --config.image=FILE or a folder")
    if config.image == "astronaut":
        paths = [Path("astronaut")]
        pictures = [images.astronaut(size=shape, channels=setup.channels)]
    else:
        paths = images.find_images(config.image)
        pictures = [images.load_image(p, size=shape, channels=setup.channels) for p in paths]
    streams = list(range(len(paths)))
    known = build_masks(config, config.mask, paths, shape, streams)
    return [
        Task(name, picture, mask, stream)
        for name, picture, mask, stream in zip(
            picture_names(paths), pictures, known, streams, strict=True
        )
    ]


def build_masks(
    config: ConfigDict,
    mask: str,
    paths: list[Path],
    shape: images.Shape,
    streams: list[int],
    *,
    field: str = "config.mask",
) -> list[np.ndarray]:
    """A mask for each picture, bool[H, W], from a generator's name or files.

    Args:
        config: has `seed` and `invert_mask`.
        mask: the name, or a file or a folder.
        paths: the pictures' files; one that does not exist has no sides to compare.
        shape: (height, width).
        streams: numbers of the random streams, so that a mask does not depend on those before it.
        field: what errors call `mask`.
    """
    if mask in masks.MASKS:
        with config_errors(field):
            return [
                masks.MASKS[mask](shape, np.random.default_rng([config.seed, stream]))
                ^ config.invert_mask
                for stream in streams
            ]
    files = images.pair_masks(paths, _find_masks(mask, field))
    return [
        images.load_mask(
            file,
            shape,
            source_shape=images.image_shape(path) if path.is_file() else None,
            invert=config.invert_mask,
        )
        for file, path in zip(files, paths, strict=True)
    ]


def _find_masks(pattern: str, field: str) -> list[Path]:
    """Mask files; a name that is neither a file nor a generator is most likely a typing error."""
    try:
        return images.find_images(pattern)
    except images.ImageError as error:
        raise ConfigError(
            f"{field}: expected one of {', '.join(masks.MASKS)}, or a file or folder: {error}"
        ) from error


def picture_names(paths: list[Path]) -> list[str]:
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
    path = Path(name).expanduser()
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


def model_about(config: ConfigDict) -> dict[str, Any]:
    """What the model's file says of its training; nothing for guided-diffusion's."""
    path = _model_path(config)
    if path.is_dir():
        return diffusers_about(path)
    return load_about(path) if path.suffix == ".safetensors" else {}


def check_numbers(config: ConfigDict) -> None:
    """Refuses numbers out of their range."""
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
