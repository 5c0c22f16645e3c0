"""A model without weights, the names and shapes it wants, and the filling in.

Every format goes the same way: build the model abstractly from its configuration, compare what
it wants with what the file has, and put the file's arrays in. No random weights are ever drawn.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from flax import nnx

Shape = tuple[int, ...]


class CheckpointError(ValueError):
    """A file that is not, or does not fit, what was to be loaded; one that can say why."""


def abstract_model(construct: Callable[..., Any], config: Mapping[str, Any], **more: Any) -> Any:
    """`construct(**config, **more, rngs=...)` with shapes in the place of weights.

    Raises CheckpointError for a configuration that the architecture does not take.
    """

    def constructed() -> Any:
        # nnx.Rngs would do, but counts its keys, which takes longer than all the rest.
        key = jax.random.key(0)
        return construct(**config, **more, rngs=SimpleNamespace(params=lambda: key))

    try:
        return nnx.eval_shape(constructed)
    except Exception as error:  # a damaged one can fail in any way
        raise CheckpointError(f"the configuration does not make a model: {error}") from error


def stored_shapes(file: Any) -> dict[str, Shape]:
    """Names and shapes of the tensors of an open safetensors file.

    Raises CheckpointError if one is no float, as weights are.
    """
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    for name, tensor in slices.items():
        if tensor.get_dtype() not in ("F16", "BF16", "F32", "F64"):
            raise CheckpointError(
                f"{name} is of the type {tensor.get_dtype()}; expected F16, BF16, F32 or F64: "
                "save the weights as one of them"
            )
    return {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}


def parameter_shapes(model: Any) -> dict[str, Shape]:
    """Shapes of a model's parameters by names like `down.1.0.norm_in.scale`."""
    return {name: tuple(variable.shape) for name, variable in named_parameters(model).items()}


def named_parameters(model: Any) -> dict[str, Any]:
    """The parameters of a model, abstract or not."""
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): variable for path, variable in flat}


def fill(model: Any, tensor: Callable[[str], np.ndarray]) -> Any:
    """The model with `tensor(name)` for each parameter, copied as float32."""
    graph, state = nnx.split(model)

    def filled(path: tuple[Any, ...], variable: Any) -> Any:
        # A copy, as jax may otherwise keep pointing into a file's memory map; NumPy's, as jax
        # would compile one for each shape.
        value = np.array(tensor(".".join(map(str, path))), variable.dtype, order="C")
        return variable.replace(jax.device_put(value))

    flat = [(path, filled(path, variable)) for path, variable in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def check_shapes(wanted: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Raises one CheckpointError that lists all missing, unexpected and misshapen tensors."""
    missing = [f"{name} {wanted[name]}" for name in wanted if name not in found]
    unexpected = [f"{name} {found[name]}" for name in found if name not in wanted]
    misshapen = [
        f"{name} is {found[name]}, not {wanted[name]}"
        for name in wanted
        if name in found and found[name] != wanted[name]
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {_some(names)}" for fault, names in faults.items() if names)
        raise CheckpointError(f"the tensors do not fit the architecture: {listed}")


def torch_shape(shape: Shape) -> Shape:
    """PyTorch's shape of a kernel: output, input, then its height and width if it has them."""
    return (*shape[:-3:-1], *shape[:-2])


def from_torch(kernel: np.ndarray) -> np.ndarray:
    """The inverse of `torch_shape`, on the array."""
    return np.moveaxis(kernel, (1, 0), (-2, -1))


def to_torch(kernel: np.ndarray) -> np.ndarray:
    """The inverse of `from_torch`."""
    return np.moveaxis(kernel, (-2, -1), (1, 0))


def _some(names: list[str], limit: int = 8) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
