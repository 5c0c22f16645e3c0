"""Times a training step beside PyTorch's: same network, weights, batch and loss, in one run.

pip install -r requirements-parity.txt
python -m benchmarks.training
python -m benchmarks.training --size=64 --widths=32,64,128,256 --batch_size=8

The network is diffusers' UNet2DModel, in PyTorch (eager, channels-last) and in Flax, in a process
each. Before anything is timed, the two losses and gradients are compared. Then rounds of steps
alternate, so that whatever else the machine does hits both; the medians are printed, and the spread
over the rounds.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags
from flax import nnx

from repaint_jax import NoiseSchedule
from repaint_jax.checkpoints import load_diffusers
from repaint_jax.runtime.devices import keep_roundings, num_cores, one_device_a_core
from repaint_jax.training.loss import Forward, noise_loss
from repaint_jax.training.step import Optimizer, Settings, Trainer

from .speed.libraries import diffusers
from .speed.machine import peak_memory
from .speed.rounds import Spread, alternate, ratio
from .speed.workers import Worker, serve

_SIZE = flags.DEFINE_integer("size", 28, "Side of the pictures.")
_CHANNELS = flags.DEFINE_integer("channels", 1, "Colours.")
_WIDTHS = flags.DEFINE_list("widths", ["32", "64", "64"], "Channels of each level.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Pictures a step.")
_ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds of each, alternating.")
_STEPS = flags.DEFINE_integer("steps", 5, "Steps a round.")
_DTYPES = flags.DEFINE_list(
    "dtype",
    ["float32", "bfloat16"],
    "Of the arithmetic; weights are float32 (autocast in PyTorch).",
)
_ONLY = flags.DEFINE_enum(
    "only", None, ["jax", "torch"], "Be the process of one, told what to do on stdin."
)

LEARNING_RATE, EMA, CLIP = 5e-4, 0.999, 1.0
AGREEMENT = {"float32": 1e-4, "bfloat16": 3e-2}  # of losses and gradients, relative


def main(argv: list[str]) -> None:
    """Compares, times, and prints."""
    del argv
    if _ONLY.value:
        serve_steps(_ONLY.value, _DTYPES.value[0])
        return
    result = {}
    for dtype in _DTYPES.value:
        command = [sys.executable, "-m", "benchmarks.training", *sys.argv[1:], f"--dtype={dtype}"]
        with ExitStack() as stack:
            workers = {
                name: stack.enter_context(closing(Worker([*command, f"--only={name}"])))
                for name in ("jax", "torch")
            }
            print(f"{dtype}, {_BATCH_SIZE.value} pictures a step, {workers['torch']('weights')}")
            check_equal(workers, AGREEMENT[dtype])
            rates = timed(workers)
            memory = {name: worker("peak_memory") for name, worker in workers.items()}
        report(rates, memory)
        result[dtype] = {"pictures_per_second": rates, "peak_memory": memory}
    print(json.dumps(result))


def check_equal(workers: Mapping[str, Worker], tolerance: float) -> None:
    """Stops unless loss and gradient norm agree on one batch."""
    ours, theirs = (workers[name]("compared") for name in ("jax", "torch"))
    print(f"loss {ours[0]:.6f}, torch {theirs[0]:.6f}; gradient {ours[1]:.6f}, {theirs[1]:.6f}")
    np.testing.assert_allclose(ours, theirs, rtol=tolerance)


def timed(workers: Mapping[str, Worker]) -> dict[str, list[float]]:
    """Pictures a second of each, round by round, in turns."""
    turns = {name: partial(worker, "round") for name, worker in workers.items()}
    for turn in turns.values():  # compiles and warms up
        turn()
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for name, seconds in alternate(turns, _ROUNDS.value):
        rates[name].append(_BATCH_SIZE.value * _STEPS.value / seconds)
    return rates


def report(rates: Mapping[str, list[float]], memory: Mapping[str, int | None]) -> None:
    """Prints the speed of each, the memory it takes, and the ratio."""
    for name, several in rates.items():
        low, median, high = Spread.of(several)
        held = memory[name]
        print(
            f"{name:6} {median:7.1f} pictures/s (from {low:.1f} to {high:.1f}), peak memory "
            + ("not known" if held is None else f"{held / 1e9:.2f} GB")
        )
    low, median, high = ratio(rates["jax"], rates["torch"])
    print(f"jax / torch {median:.2f} (round by round from {low:.2f} to {high:.2f})")


def serve_steps(name: str, dtype: str) -> None:
    """Serves `round`, `compared` (loss and gradient norm), `peak_memory` and `weights`."""
    one_device_a_core()  # as scripts/train.py does
    keep_roundings()
    torch.set_num_threads(num_cores())
    torch.manual_seed(0)
    network = torch_network()
    rng = np.random.default_rng(0)
    shape = (512, _SIZE.value, _SIZE.value, _CHANNELS.value)
    pictures = rng.integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(Path(folder) / "unet")
        diffusers.DDPMScheduler().save_pretrained(Path(folder) / "scheduler")
        model, noise = load_diffusers(folder, dtype=dtype)
    network = network.to(memory_format=torch.channels_last)
    compare: Callable[[], tuple[float, float]]
    if name == "jax":
        compare, make = partial(jax_loss, model, noise, pictures), partial(jax_step, model)
    else:
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")
        compare = autocast(partial(torch_loss_and_gradient, network, noise, pictures))
        make = partial(torch_step, network, autocast)
    step = cache(lambda: make(noise, pictures))
    count = sum(weights.numel() for weights in network.parameters())
    actions: dict[str, Callable[..., Any]] = {
        "compared": compare,
        "round": lambda: repeated(step()),
        "peak_memory": peak_memory,
        "weights": lambda: f"{count / 1e6:.2f} M weights",
    }
    serve(actions)


def repeated(step: Callable[[], None]) -> None:
    """The steps of a round."""
    for _ in range(_STEPS.value):
        step()


def batch_of(noise: NoiseSchedule, pictures: np.ndarray) -> tuple[np.ndarray, ...]:
    """Pictures, timesteps and noise, the same in every process."""
    rng = np.random.default_rng(1)
    x0 = pictures[: _BATCH_SIZE.value] / np.float32(127.5) - 1
    t = rng.integers(0, noise.num_steps, len(x0))
    return x0, t, rng.standard_normal(x0.shape, np.float32)


def jax_loss(model: Any, noise: NoiseSchedule, pictures: np.ndarray) -> tuple[float, float]:
    """Loss and the norm of its gradient."""
    x0, t, eps = batch_of(noise, pictures)
    graph, weights = nnx.split(model)

    def loss_of(weights: Any) -> jax.Array:
        batch = (jnp.asarray(x0), jnp.asarray(t, jnp.int32), jnp.asarray(eps))
        return noise_loss(nnx.merge(graph, weights), *batch, Forward.table(noise)).total

    loss, gradient = jax.jit(jax.value_and_grad(loss_of))(weights)
    return float(loss), float(jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))))


def torch_loss_and_gradient(
    network: Any, noise: NoiseSchedule, pictures: np.ndarray
) -> tuple[float, float]:
    """The same in PyTorch."""
    x0, t, eps = batch_of(noise, pictures)
    loss = torch_loss(network, noise, nchw(x0), torch.tensor(t), nchw(eps))
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), np.inf)
    network.zero_grad()
    return loss.item(), norm.item()


def torch_network() -> Any:
    """A U-Net like that of configs/train/fashion_mnist.py: attention at the lowest level."""
    widths = tuple(map(int, _WIDTHS.value))
    plain = len(widths) - 1
    return diffusers.UNet2DModel(
        sample_size=_SIZE.value,
        in_channels=_CHANNELS.value,
        out_channels=_CHANNELS.value,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * plain,
        attention_head_dim=32,
        resnet_time_scale_shift="scale_shift",
    )


def jax_step(model: Any, noise: NoiseSchedule, pictures: np.ndarray) -> Callable[[], None]:
    """An update of this project's trainer, as a run on a CPU makes it."""
    optimizer = Optimizer(LEARNING_RATE, warmup_steps=0, decay_fraction=0.0, clip_norm=CLIP)
    settings = Settings(10**6, _BATCH_SIZE.value, ema=EMA, optimizer=optimizer)
    trainer = Trainer(model, noise, settings)
    state, resident = trainer.init(), trainer.replicated(pictures)

    def step() -> None:
        nonlocal state
        state, metrics = trainer.run(state, resident, 1)
        jax.block_until_ready(metrics)

    return step


def torch_step(
    network: Any, autocast: Any, noise: NoiseSchedule, pictures: np.ndarray
) -> Callable[[], None]:
    """The same update in PyTorch, with its fused optimiser."""
    optimizer = torch.optim.AdamW(
        network.parameters(), LEARNING_RATE, (0.9, 0.99), weight_decay=0.0, fused=True
    )
    weights = list(network.parameters())
    average = [weight.detach().clone() for weight in weights]
    resident = torch.tensor(pictures).permute(0, 3, 1, 2)

    def step() -> None:
        batch = resident[torch.randint(len(resident), (_BATCH_SIZE.value,))]
        x0 = batch.float() / 127.5 - 1
        mirrored = torch.rand(len(x0), 1, 1, 1) < 0.5
        x0 = torch.where(mirrored, x0.flip(-1), x0)
        t = torch.randint(noise.num_steps, (len(x0),))
        with autocast:
            loss = torch_loss(network, noise, x0, t, torch.randn_like(x0))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - EMA)

    return step


def torch_loss(network: Any, noise: NoiseSchedule, x0: Any, t: Any, eps: Any) -> Any:
    """Mean squared error of the noise."""
    ac = torch.tensor(noise.alphas_cumprod, dtype=torch.float32)[t].reshape(-1, 1, 1, 1)
    x = ac.sqrt() * x0 + (1 - ac).sqrt() * eps
    return torch.nn.functional.mse_loss(network(x, t).sample.float(), eps)


def nchw(x: np.ndarray) -> Any:
    """NHWC to torch's order of axes; in memory they stay as they are, channels last."""
    return torch.tensor(x).permute(0, 3, 1, 2)


if __name__ == "__main__":
    app.run(main)
