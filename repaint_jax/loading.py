"""From a file of weights to a pipeline."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from repaint_jax.adapters import noise_from_unit_range, noise_predictor
from repaint_jax.checkpoints import load, load_guided_diffusion_classifier, read_checkpoint
from repaint_jax.checkpoints.diffusers_files import is_hub_name
from repaint_jax.denoisers import Denoiser
from repaint_jax.errors import ArgumentError
from repaint_jax.files import expanded, fingerprint
from repaint_jax.guidance import guided, with_label
from repaint_jax.models import EncoderUNet, LucidrainsUnet, UNet, UNet2DModel
from repaint_jax.models.kernels.onednn import best_dtype
from repaint_jax.models.layers import in_computing_dtype
from repaint_jax.pipeline import Pipeline
from repaint_jax.schedules import SCHEDULES, NoiseSchedule, check_end

__all__ = ["load_pipeline"]

LARGEST_SIDE = 8192  # of a picture
WEIGHTS = Path(__file__).parent / "weights"  # the models in the box


def load_pipeline(
    path_or_name: str | Path,
    *,
    dtype: str = "float32",
    image_size: Any = None,
    noise_kind: str | None = None,
    num_train_steps: int | None = None,
    prediction: str | None = None,
    unit_range: bool = False,
    class_label: int | None = None,
    classifier: str | Path | None = None,
    guidance_scale: float = 1.0,
    num_heads: int | None = None,
    num_head_channels: int = 64,
    use_new_attention_order: bool = False,
    patch_size: int = 1,
    sinusoidal_pos_emb_theta: float = 10_000,
) -> Pipeline:
    """A pipeline of a trained model.

    Args:
        path_or_name: a model in the box, such as "celeba64"; a file, a folder or a name of the
            Hugging Face hub, as `read_checkpoint` takes them.
        dtype: "float32" or "bfloat16", in which the network computes; or "auto", which is bfloat16
            on CPUs that are faster in it, and float32 elsewhere.
        image_size: a side, or (height, width); by default that of the training.
        noise_kind: of the noise schedule of the training, where the file does not tell.
        num_train_steps: its steps, likewise.
        prediction: "noise", "x0" or "v", what the network predicts, likewise.
        unit_range: whether it was trained on pictures in [0, 1]; see `noise_from_unit_range`.
        class_label: the class to draw, of a model of classes or for the classifier.
        classifier: the file of a classifier of noisy pictures, which steers to the class.
        guidance_scale: how much it steers.
        num_heads: what files of guided-diffusion do not tell, as the next three.
        num_head_channels: channels of an attention head.
        use_new_attention_order: True for OpenAI's 64x64 model.
        patch_size: pixels of a picture, a side, that are one of the network's.
        sinusoidal_pos_emb_theta: what files of denoising-diffusion-pytorch do not tell.

    Raises:
        ArgumentError: an argument does not fit the model, or is missing.
        CheckpointError, OSError: the file cannot be read.
    """
    path = find_model(path_or_name)
    computing = _dtype(dtype)
    checkpoint = read_checkpoint(
        path,
        dtype=computing,
        num_heads=num_heads,
        num_head_channels=num_head_channels,
        use_new_attention_order=use_new_attention_order,
        patch_size=patch_size,
        sinusoidal_pos_emb_theta=sinusoidal_pos_emb_theta,
    )
    network = checkpoint.network
    channels = _channels(path, network)
    shape = picture_shape(image_size, checkpoint.image_size, network.downsampling)
    noise = trained_noise(checkpoint.noise, noise_kind, num_train_steps)
    check_end(noise)
    predicted = trained_prediction(checkpoint.prediction, prediction)
    steering = (
        load_classifier(classifier, (*shape, channels), computing, num_head_channels)
        if classifier
        else None
    )
    model = settle_class(
        in_computing_dtype(network), predicted, noise, class_label, steering, guidance_scale, path
    )
    if unit_range:
        model, noise = noise_from_unit_range(model, noise)
    return Pipeline(
        model,
        noise,
        shape,
        channels,
        clip_denoised=checkpoint.clip_denoised is not False,
        variance="fixed_large" if checkpoint.variance == "fixed_large" else "fixed_small",
        fingerprint=checkpoint.fingerprint + (fingerprint(classifier) if classifier else ""),
    )


def find_model(path_or_name: str | Path) -> str | Path:
    """The file of a model in the box, or what was given.

    Raises:
        ArgumentError: it is neither such a name, nor a file or folder, nor a name of the hub.
    """
    boxed = WEIGHTS / f"{path_or_name}.safetensors"
    if boxed.is_file():
        return boxed
    path = expanded(path_or_name)
    if not path.exists() and not is_hub_name(str(path_or_name)):
        raise ArgumentError(
            "path",
            f"there is no file {path}; give a .safetensors or .pt file, a folder or hub name of "
            "diffusers, or a model in the box: "
            + ", ".join(sorted(file.stem for file in WEIGHTS.glob("*.safetensors"))),
        )
    return path_or_name


def picture_shape(asked: Any, trained: tuple[int, int] | None, factor: int) -> tuple[int, int]:
    """(height, width) of the pictures, as asked or else as the network was trained.

    Args:
        asked: a side or (height, width); None or 0 for the training's.
        trained: the training's, if it is known.
        factor: of which the network takes multiples.

    Warns:
        UserWarning: when the network is known, or likely, to have been trained on another shape.
    """
    size = asked or trained
    if size is None:
        raise ArgumentError(
            "image_size",
            "the model's file does not tell the side of its training pictures; set it, for "
            "instance to 256",
        )
    shape = (size, size) if isinstance(size, int) else size
    if not isinstance(shape, tuple | list) or [type(side) for side in shape] != [int, int]:
        raise ArgumentError(
            "image_size", f"a side such as 256 or height,width as 256,384; not {size!r}"
        )
    if wrong := sorted({side for side in shape if side < factor or side % factor}):
        below = [side // factor * factor for side in wrong]
        near = {max(factor, side + more) for side in below for more in (0, factor)}
        raise ArgumentError(
            "image_size",
            f"this network takes multiples of {factor} pixels, not "
            f"{' and '.join(map(str, wrong))}; near by are {', '.join(map(str, sorted(near)))}",
        )
    height, width = shape
    if max(shape) > LARGEST_SIDE:
        raise ArgumentError("image_size", f"at most {LARGEST_SIDE} pixels a side, not {max(shape)}")
    if (height, width) != (trained or (height, height)):
        training = f"{trained[0]}x{trained[1]}" if trained else "squares, as most are"
        warnings.warn(
            f"image_size: pictures of {height}x{width} (height x width), but the network was "
            f"trained on {training}: expect it to repeat or misplace what it knows",
            stacklevel=2,
        )
    return height, width


def trained_noise(
    trained: NoiseSchedule | None, kind: str | None, num_train_steps: int | None
) -> NoiseSchedule:
    """The noise schedule of the training, as the model's file tells or else as asked."""
    if trained is None:
        for argument, value in (("noise_kind", kind), ("num_train_steps", num_train_steps)):
            if value is None:
                raise ArgumentError(
                    argument,
                    "the model's file does not tell its noise schedule; set the one of its "
                    "training, for instance linear with 1000 steps",
                )
        return named_noise(str(kind), int(num_train_steps or 0))
    steps = trained.num_steps
    if num_train_steps not in (None, steps):
        raise ArgumentError(
            "num_train_steps",
            f"the model was trained with {steps}, and no other schedule fits its weights; remove "
            f"{num_train_steps}",
        )
    # Files have betas in float32, some computed in it.
    if kind is not None and not np.allclose(named_noise(kind, steps).betas, trained.betas, 1e-4):
        raise ArgumentError(
            "noise_kind",
            f"the model was trained with another schedule, and no other fits its weights; remove "
            f"{kind!r}",
        )
    return trained


def trained_prediction(told: str | None, asked: str | None) -> str:
    """What the network predicts, as its file tells or else as asked."""
    if asked not in (None, "noise", "x0", "v"):
        raise ArgumentError("prediction", f"noise, x0 or v, not {asked!r}")
    if told and asked not in (None, told):
        raise ArgumentError("prediction", f"the model predicts {told}; remove {asked!r}")
    if predicted := told or asked:
        return predicted
    raise ArgumentError(
        "prediction",
        "the model's file does not tell what it predicts; set noise, x0 or v, as in its training",
    )


def named_noise(kind: str, num_train_steps: int) -> NoiseSchedule:
    """The noise schedule of that name."""
    if kind not in SCHEDULES:
        raise ArgumentError("noise_kind", f"one of {', '.join(SCHEDULES)}, not {kind!r}")
    try:
        return SCHEDULES[kind](num_train_steps)
    except ValueError as error:
        raise ArgumentError("num_train_steps", str(error)) from error


def settle_class(
    network: Any,
    prediction: str,
    noise: NoiseSchedule,
    label: int | None,
    classifier: EncoderUNet | None,
    scale: float,
    path: str | Path,
) -> Denoiser:
    """A noise predictor of one class of the network, or of all that it knows if that is no class.

    Args:
        network: ready to compute.
        prediction: what it predicts.
        noise: the schedule of the training.
        label: the class.
        classifier: steers to it by `scale`.
        scale: see `guided`.
        path: what errors call the model.
    """
    counts: list[int | None] = [
        getattr(network, "num_classes", None),
        None if classifier is None else classifier.arch.out_channels,
    ]
    known = {count for count in counts if count is not None}
    if not known:
        if label is not None:
            raise ArgumentError(
                "class_label",
                f"{path} knows no classes; remove {label}, or let a classifier of noisy pictures "
                "steer",
            )
        return noise_predictor(network, prediction, noise)
    if len(known) == 2:
        raise ArgumentError(
            "classifier",
            f"it knows {counts[1]} classes but the model {counts[0]}; give the one that belongs "
            "to the model",
        )
    last = known.pop() - 1
    if label is None or not 0 <= label <= last:
        raise ArgumentError(
            "class_label",
            f"a class from 0 to {last} is needed, which the model draws or its classifier steers "
            f"to; {'none is given' if label is None else f'not {label}'}",
        )
    model = network if counts[0] is None else with_label(network, label)
    model = noise_predictor(model, prediction, noise)
    return model if classifier is None else guided(model, classifier, label, scale, noise)


def load_classifier(
    path: str | Path, shape: tuple[int, int, int], dtype: Any, num_head_channels: int
) -> EncoderUNet:
    """A classifier of noisy pictures [H, W, C]."""
    file = expanded(path)
    if not file.is_file():
        raise ArgumentError(
            "classifier", f"there is no file {file}; give a .safetensors or .pt file"
        )
    if file.suffix == ".safetensors":
        classifier = load(file, dtype=dtype)
    else:
        classifier = load_guided_diffusion_classifier(
            file, num_head_channels=num_head_channels, dtype=dtype
        )
    if not isinstance(classifier, EncoderUNet):
        raise ArgumentError("classifier", f"{file} is a diffusion model, not a classifier")
    side, channels = classifier.arch.image_size, classifier.arch.in_channels
    if (side, side, channels) != shape:
        raise ArgumentError(
            "classifier",
            f"{file} takes {side}x{side} pixels and {channels} channels, but the pictures have "
            f"{shape[0]}x{shape[1]} and {shape[2]}; change image_size or leave the classifier out",
        )
    return in_computing_dtype(classifier)


def _channels(path: str | Path, network: Any) -> int:
    """Channels of the pictures that a network of pictures takes."""
    if not isinstance(network, LucidrainsUnet | UNet | UNet2DModel):
        raise ArgumentError("path", f"{path} is a classifier, not a diffusion model")
    channels = network.config["in_channels"]
    if channels not in (1, 3):
        raise ArgumentError("path", f"{path} takes {channels} channels; pictures have 1 or 3")
    if network.config.get("class_embed_type") is not None:
        raise ArgumentError(
            "path",
            f"{path} takes classes that are not numbers, class_embed_type "
            f"{network.config['class_embed_type']!r}; wrap it in Python as model(x, t), call "
            "inpaint",
        )
    return channels


def _dtype(name: str) -> Any:
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    if name == "auto":
        name, _ = best_dtype()
    if name not in dtypes:
        raise ArgumentError("dtype", f"float32, bfloat16 or auto, not {name!r}")
    return dtypes[name]
