"""Loads checkpoints of denoising-diffusion-pytorch, lucidrains' package, version 2.

Its `Trainer` writes `model-10.pt`, with the averaged weights (EMA) under `ema.ema_model.`. They are
those of a `GaussianDiffusion`, whose buffers tell the betas and, by the weights of its loss, what
the network predicts; the tensors of its `Unet` tell the architecture. Nothing tells the size of the
pictures, whether they were in [-1, 1] or, without `auto_normalize`, in [0, 1], or a
`sinusoidal_pos_emb_theta` that is not the default. A file of a `Unet` alone tells its architecture.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from repaint_jax.adapters import noise_from_unit_range, noise_predictor
from repaint_jax.checkpoints.checkpoint import Checkpoint, Prediction
from repaint_jax.checkpoints.parameters import (
    CheckpointError,
    Shape,
    abstract_model,
    check_shapes,
    fill,
    from_torch,
    parameter_shapes,
    torch_shape,
)
from repaint_jax.checkpoints.tensor_files import (
    Tensors,
    beginning_with,
    find_network,
    open_tensors,
)
from repaint_jax.denoisers import Denoiser
from repaint_jax.files import fingerprint
from repaint_jax.models.lucidrains.unet import LucidrainsUnet
from repaint_jax.schedules import NoiseSchedule

ANCHOR = "init_conv.weight"  # a tensor of every such network
# Each part of a parameter's path, and what the package calls it.
_NAMES = {
    "time_embed": "time_mlp",
    "frequencies": "0.weights",
    "linear_in": "1",
    "down": "downs",
    "up": "ups",
    "final_block": "final_res_block",
    "embed": "mlp.1",
    "conv": "proj",
    "skip": "res_conv",
    "qkv": "to_qkv",
    "proj": "to_out",
    "out_norm": "to_out.1",
    "mix": "1",
    "kernel": "weight",
    "scale": "g",
}
_IN_A_LEVEL = {"block1": "0", "block2": "1", "attention": "2", "resample": "3"}
_IN_THE_MIDDLE = {"block1": "mid_block1", "block2": "mid_block2", "attention": "mid_attn"}
_PIXELWISE = ("to_qkv.weight", "to_out.weight", "to_out.0.weight")  # 1x1 convolutions


def load_lucidrains(
    path: str | Path,
    *,
    unit_range: bool = False,
    sinusoidal_pos_emb_theta: float = 10_000,
    dtype: DTypeLike = jnp.float32,
) -> tuple[Denoiser, NoiseSchedule]:
    """Loads a network and the noise schedule it was trained with.

    Args:
        path: a `.pt` file of the `Trainer`, or the state dict of a `GaussianDiffusion`; averaged
            weights (EMA) are preferred.
        unit_range: whether the training's pictures were in [0, 1], as `auto_normalize=False`
            leaves the `Trainer`'s: see `noise_from_unit_range`.
        sinusoidal_pos_emb_theta: as in the training.
        dtype: in which the network computes; its parameters are float32.

    Returns:
        A `LucidrainsUnet`, wrapped to predict the noise if it predicts x_0 or v; and its schedule,
        not respaced.

    Raises:
        FileNotFoundError: if there is no such file.
        CheckpointError: if it is damaged, not of that package, of a part of it that is not
            supported, or does not tell the noise schedule or what is predicted.
    """
    path = Path(path)
    read = read_lucidrains(
        path, open_tensors(path), dtype=dtype, sinusoidal_pos_emb_theta=sinusoidal_pos_emb_theta
    )
    if read.noise is None or read.prediction is None:
        raise CheckpointError(
            f"{path}: it does not tell the betas or, by loss_weight, the objective of a "
            "GaussianDiffusion: save diffusion.state_dict() instead of its model's, or call "
            "load_pipeline with noise_kind, num_train_steps and prediction"
        )
    model = noise_predictor(read.network, read.prediction, read.noise)
    return noise_from_unit_range(model, read.noise) if unit_range else (model, read.noise)


def load_lucidrains_unet(
    path: str | Path,
    *,
    sinusoidal_pos_emb_theta: float = 10_000,
    dtype: DTypeLike = jnp.float32,
) -> LucidrainsUnet:
    """Loads the network alone, whatever it predicts; arguments and errors as `load_lucidrains`."""
    path = Path(path)
    return _network(path, open_tensors(path), dtype, sinusoidal_pos_emb_theta)[0]


def read_lucidrains(
    path: Path, tensors: Tensors, *, dtype: DTypeLike, sinusoidal_pos_emb_theta: float = 10_000
) -> Checkpoint:
    """A network and its training, of which a file of a `Unet` alone tells nothing.

    Args:
        path: the file.
        tensors: those in it.
        dtype: in which the network computes.
        sinusoidal_pos_emb_theta: as in the training.

    Raises:
        CheckpointError: as `load_lucidrains`.
    """
    network, prefix = _network(path, tensors, dtype, sinusoidal_pos_emb_theta)
    arch = network.arch
    # A GaussianDiffusion's network is its attribute `model`.
    around = beginning_with(tensors, prefix.removesuffix("model."))
    if arch.fourier_features is not None and "betas" not in around.shapes:
        raise CheckpointError(
            f"{path}: its time is told by {arch.fourier_features} learned or random waves, as to "
            "ElucidatedDiffusion and in continuous time: load_lucidrains_unet loads the network, "
            "which docs/bring_your_own_model.md shows how to use in Python"
        )
    try:
        noise = _noise(around)
        prediction = _prediction(around, noise)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}: save or download it again") from error
    return Checkpoint(
        network,
        # LearnedGaussianDiffusion trains the first half to be the noise, whatever its objective.
        prediction="noise" if arch.out_channels == 2 * arch.in_channels else prediction,
        noise=noise,
        image_size=None,
        clip_denoised=True,
        variance="fixed_small",
        fingerprint=fingerprint(path),
    )


def _noise(diffusion: Tensors) -> NoiseSchedule | None:
    """The schedule of a `GaussianDiffusion`; ValueError if there is none such."""
    if "betas" not in diffusion.shapes:
        return None
    return NoiseSchedule.from_betas(diffusion.read("betas"))


def _prediction(diffusion: Tensors, noise: NoiseSchedule | None) -> Prediction | None:
    """What the network predicts, by the weights of its loss; None if they do not tell.

    With snr' = min(snr, gamma), and gamma infinite without `min_snr_loss_weight` (Hang et al.
    2023), the weight is snr' / snr for the noise, snr' for x_0 and snr' / (snr + 1) for v.
    """
    if noise is None or "loss_weight" not in diffusion.shapes:
        return None
    weight = diffusion.read("loss_weight").astype(np.float64)
    if weight.shape != noise.betas.shape:
        raise ValueError(f"loss_weight {weight.shape} does not fit betas {noise.betas.shape}")
    snr = noise.alphas_cumprod / (1 - noise.alphas_cumprod)
    clipped: dict[Prediction, np.ndarray] = {
        "noise": weight * snr,
        "x0": weight,
        "v": weight * (snr + 1),
    }
    fitting = [
        prediction
        for prediction, ratio in clipped.items()
        if np.allclose(ratio, np.minimum(snr, ratio.max()), rtol=1e-3, atol=0)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _network(
    path: Path, tensors: Tensors, dtype: DTypeLike, theta: float
) -> tuple[LucidrainsUnet, str]:
    """The network, and what stands before its names in the file."""
    try:
        own, prefix = find_network(tensors, ANCHOR)
        config = {**infer_config(own.shapes), "sinusoidal_pos_emb_theta": theta}
        model = abstract_model(LucidrainsUnet, config, dtype=dtype)
        check_shapes(checkpoint_shapes(model), own.shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return fill(model, lambda name: _parameter(own, checkpoint_name(name))), prefix


def _parameter(tensors: Tensors, name: str) -> np.ndarray:
    array = tensors.read(name)
    if name.endswith(".g"):
        return array.reshape(-1)
    if name.endswith(_PIXELWISE):
        return array[:, :, 0, 0].T
    return from_torch(array) if name.endswith(".weight") else array


def checkpoint_name(name: str) -> str:
    """down.1.block1.block1.norm.scale -> downs.1.0.block1.norm.g."""
    head, *parts = name.split(".")
    if head == "middle":
        named = [_IN_THE_MIDDLE[parts.pop(0)]]
    elif head in ("down", "up"):
        named = [_NAMES[head], parts.pop(0), _IN_A_LEVEL[parts.pop(0)]]
    else:
        named = [_NAMES.get(head, head)]
    # One word for two layers: of the time's perceptron, and of linear attention.
    out = "3" if head == "time_embed" else "to_out.0"
    names = {**_NAMES, "linear_out": out}
    return ".".join(named + [names.get(part, part) for part in parts])


def checkpoint_shapes(model: LucidrainsUnet) -> dict[str, Shape]:
    """Names and shapes of the state dict of a model, which may be abstract."""
    shapes = {checkpoint_name(name): shape for name, shape in parameter_shapes(model).items()}
    return {name: _torch_shape(name, shape) for name, shape in shapes.items()}


def _torch_shape(name: str, shape: Shape) -> Shape:
    if name.endswith(".g"):
        return (1, *shape, 1, 1)
    if name.endswith(_PIXELWISE):
        return (*shape[::-1], 1, 1)
    return torch_shape(shape) if name.endswith(".weight") else shape


def infer_config(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Arguments of `LucidrainsUnet` from the names and shapes of a state dict.

    Raises CheckpointError if it is none of the package's `Unet`, or of a kind not supported.
    """
    _check_kind(shapes)
    init_dim, in_channels = _sizes(shapes, ANCHOR)[:2]
    out_channels = _sizes(shapes, "final_conv.weight")[0]
    _check_channels(in_channels, out_channels)
    dim = max(_sizes(shapes, "time_mlp.1.weight")[0] // 4, 1)
    levels = range(len({name.split(".")[1] for name in shapes if name.startswith("downs.")}))
    fed = [f"downs.{level}.0.block1.proj.weight" for level in levels][1:]
    widths = [_sizes(shapes, name)[1] for name in [*fed, "mid_block1.block1.proj.weight"]]
    full_attn = [f"downs.{level}.2.to_out.weight" in shapes for level in levels]
    # [2, heads, memory, channels] of full attention, [2, heads, channels, memory] of linear.
    memory = [_sizes(shapes, f"downs.{level}.2.mem_kv") for level in levels]
    return {
        "dim": dim,
        "init_dim": init_dim,
        "dim_mults": [width // dim if width % dim == 0 else width / dim for width in widths],
        "full_attn": full_attn,
        "attn_heads": [shape[1] for shape in memory],
        "attn_dim_head": [
            shape[3 if full else 2] for shape, full in zip(memory, full_attn, strict=True)
        ],
        "num_mem_kv": _sizes(shapes, "mid_attn.mem_kv")[2],
        "in_channels": in_channels,
        "out_channels": out_channels,
        "fourier_features": shapes.get("time_mlp.0.weights", (None,))[0],
    }


def _check_kind(shapes: Mapping[str, Shape]) -> None:
    """Raises CheckpointError for another network of lucidrains."""
    dimensions = len(shapes.get(ANCHOR, (0,) * 4)) - 2
    if dimensions != 2:
        raise CheckpointError(
            f"a network of lucidrains for data of {dimensions} dimensions; pictures have 2: give a "
            "checkpoint of a Unet of pictures"
        )
    if "null_classes_emb" in shapes:
        raise CheckpointError(
            "a Unet of classifier_free_guidance, which is not supported: use it in Python, as "
            "docs/bring_your_own_model.md shows for PyTorch"
        )
    if "mid_attn.mem_kv" not in shapes:
        raise CheckpointError(
            "not a Unet of denoising-diffusion-pytorch 2, whose attention has mem_kv, but perhaps "
            "one of an earlier version: use it in Python, as docs/bring_your_own_model.md shows "
            "for PyTorch"
        )


def _check_channels(taken: int, returned: int) -> None:
    """Raises CheckpointError unless a network returns what it takes, or that and a variance."""
    if taken == 2 * returned:
        raise CheckpointError(
            f"the network takes {taken} channels and returns {returned}: it was trained with "
            "self_condition, and wants the picture that it predicted a step before, which is not "
            "supported; train it without"
        )
    if returned not in (taken, 2 * taken):
        raise CheckpointError(
            f"the network takes {taken} channels and returns {returned}; expected as many, or "
            "twice as many with learned_variance: of WeightedObjectiveGaussianDiffusion and other "
            "out_dim it is not supported"
        )


def _sizes(shapes: Mapping[str, Shape], name: str) -> Shape:
    """The shape of a tensor that every such checkpoint has."""
    axes = 2 if name == "time_mlp.1.weight" else 4
    shape = shapes.get(name, ())
    if len(shape) != axes or 0 in shape:
        raise CheckpointError(
            f"not a Unet of denoising-diffusion-pytorch 2: expected a tensor {name} of {axes} "
            f"axes, but {f'its shape is {shape}' if name in shapes else 'there is none'}"
        )
    return shape
