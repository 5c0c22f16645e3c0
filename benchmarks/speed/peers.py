"""What diffusers and PyTorch put into the rounds: the same network with the same weights."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

from repaint_jax.checkpoints.diffusers import checkpoint_name
from repaint_jax.checkpoints.parameters import named_parameters, to_torch
from repaint_jax.runtime.devices import num_cores

from . import BenchmarkError
from .libraries import diffusers
from .machine import MATRIX_SIDE
from .ours import Workload, probe
from .rounds import Contestant


def prepare_torch() -> dict[str, Any]:
    """Settles threads and precision as JAX has them; the versions, as JSON has them.

    Raises:
        BenchmarkError: JAX computes on a GPU that PyTorch does not see.
    """
    if jax.default_backend() == "gpu" and _device() == "cpu":
        raise BenchmarkError(
            "JAX computes on a GPU, but this PyTorch sees none: install PyTorch for CUDA, or "
            "leave the peers out, --peers=none"
        )
    torch.set_num_threads(num_cores())
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as XLA's default is
    torch.backends.cudnn.benchmark = True
    diffusers.utils.logging.set_verbosity_error()
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "torch_device": _device(),
        "torch_threads": torch.get_num_threads(),
    }


class Peers:
    """diffusers' `UNet2DModel` with the weights of a model of this project."""

    def __init__(self, work: Workload, model: nnx.Module):
        """Takes over the weights."""
        self.work = work
        self.device, self.dtype = _device(), getattr(torch, work.dtype)
        self.weights = {
            checkpoint_name(name).removeprefix("network."): self._tensor(
                name, np.asarray(variable[...], np.float32)
            )
            for name, variable in named_parameters(model).items()
        }

    def contestants(self, mode: str) -> dict[str, Contestant]:
        """The pipeline and the bare network, "eager" or "compiled"."""
        network = self._network()
        if mode == "compiled":
            network.compile()
        suffix = "_compiled" if mode == "compiled" else ""
        return {
            "diffusers" + suffix: self._pipeline(network),
            "torch" + suffix: self._forward(network),
        }

    def prediction(self) -> np.ndarray:
        """The bare network's output for a batch of noise, f32[N, H, W, C]."""
        x, t = probe(self.work)
        with torch.inference_mode():
            output = self._network()(self._pictures(x), t).sample
        return output.permute(0, 2, 3, 1).float().cpu().numpy()

    def _network(self) -> Any:
        arguments = dict(self.work.config)
        patch_size = arguments.pop("patch_size")
        with torch.device("meta"):
            network = diffusers.UNet2DModel(**arguments)
        network.load_state_dict(self.weights, assign=True)
        network.requires_grad_(False)
        network = network.eval().to(memory_format=torch.channels_last)
        return network if patch_size == 1 else Patched(network, patch_size)

    def _pipeline(self, network: Any) -> Contestant:
        work = self.work
        num_steps, jump_length, num_resamples = work.schedule
        scheduler = diffusers.RePaintScheduler(
            num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, eta=1.0
        )
        pipeline = diffusers.RePaintPipeline(unet=Float32(network), scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        image = torch.zeros((work.batch, 3, work.size, work.size))
        mask = torch.zeros_like(image[:, :1])
        mask[..., : work.size // 2] = 1

        def run() -> None:
            # It warns of names that it deprecates itself.
            with warnings.catch_warnings(action="ignore"), torch.inference_mode():
                pipeline(
                    image,
                    mask,
                    num_inference_steps=num_steps,
                    eta=1.0,
                    jump_length=jump_length,
                    jump_n_sample=num_resamples,
                    output_type="np",
                )

        return run

    def _forward(self, network: Any) -> Contestant:
        work = self.work
        start = self._pictures(np.zeros((work.batch, work.size, work.size, 3), np.float32))

        def run() -> None:
            with torch.inference_mode():
                x = start
                for _ in range(work.calls):
                    x = network(x, 500).sample
                _wait()

        return run

    def _tensor(self, name: str, array: np.ndarray) -> Any:
        array = to_torch(array) if name.endswith(".kernel") else array
        return torch.tensor(array).to(self.device, self.dtype)

    def _pictures(self, x: np.ndarray) -> Any:
        pictures = torch.tensor(x).permute(0, 3, 1, 2).to(self.device, self.dtype)
        return pictures.contiguous(memory_format=torch.channels_last)


class Patched(torch.nn.Module):
    """A network for which patches of pixels are pixels of more channels."""

    def __init__(self, network: Any, patch_size: int):
        super().__init__()
        self.network, self.patch_size = network, patch_size
        self.device, self.dtype = network.device, network.dtype

    def forward(self, x: Any, t: Any) -> SimpleNamespace:
        """As `UNet2DModel` is called."""
        patches = torch.nn.functional.pixel_unshuffle(x, self.patch_size)
        patches = patches.contiguous(memory_format=torch.channels_last)
        out = self.network(patches, t).sample
        return SimpleNamespace(sample=torch.nn.functional.pixel_shuffle(out, self.patch_size))


class Float32(torch.nn.Module):
    """A network behind float32 pictures: the sampler here keeps such, the pipeline needs them."""

    dtype = torch.float32

    def __init__(self, network: Any):
        super().__init__()
        self.network, self.device = network, network.device

    def forward(self, x: Any, t: Any) -> SimpleNamespace:
        """As `UNet2DModel` is called."""
        return SimpleNamespace(sample=self.network(x.to(self.network.dtype), t).sample.float())


def torch_matrix_product(dtype: str, products: int = 4) -> tuple[Contestant, float]:
    """Square matrix products in PyTorch, and how many floating-point operations they are."""
    side = MATRIX_SIDE["gpu" if _device() == "cuda" else "cpu"]
    matrix = torch.full((side, side), 1 / side, device=_device(), dtype=getattr(torch, dtype))

    def run() -> None:
        product = matrix
        for _ in range(products):
            product = product @ matrix
        _wait()

    return run, 2.0 * side**3 * products


def peak_memory_of_torch() -> int | None:
    """Bytes of a GPU that PyTorch held at most; None on a CPU, where the process is asked."""
    return torch.cuda.max_memory_allocated() if _device() == "cuda" else None


def _device() -> str:
    """PyTorch runs where JAX does."""
    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def _wait() -> None:
    if _device() == "cuda":
        torch.cuda.synchronize()
