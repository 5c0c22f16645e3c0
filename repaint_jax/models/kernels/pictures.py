"""Functions of pictures that a CPU computes by foreign code, as primitives of JAX.

A primitive can be told its derivatives in both directions, which `jax.custom_vjp` (no tangents) and
`jax.custom_jvp` (no transpose that is foreign code again) cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Function = Callable[..., Any]


class ForeignFunction:
    """A function of arrays of pictures and others, and of static parameters by name."""

    def __init__(self, name: str, foreign: Function, by_xla: Function, rule: str):
        """Makes the primitive; its derivatives are told later.

        Args:
            name: of the primitive.
            foreign: what a CPU calls.
            by_xla: the same as JAX's operations, for what is no CPU and for unusual maps.
            rule: the axes of arguments and results as `custom_partitioning` takes them: "n" is that
                of the pictures, and a single result that lacks it is a sum over them.
        """
        self.foreign, self.by_xla, self.rule = foreign, by_xla, rule
        self._pictures, self._results = (
            [term.split()[0] == "n" for term in side.split(",")] for side in rule.split("->")
        )
        self._body = cache(self._traced)
        self.primitive = made = Primitive(name)
        made.multiple_results = len(self._results) > 1
        made.def_impl(lambda *arrays, body, **_: _compiled(body)(*arrays))
        made.def_abstract_eval(
            lambda *_, body, **__: body.out_avals if made.multiple_results else body.out_avals[0]
        )
        mlir.register_lowering(
            made, mlir.lower_fun(lambda *arrays, body, **_: jaxpr_as_fun(body)(*arrays), True)
        )
        batching.primitive_batchers[made] = self._mapped

    def __call__(self, *arrays: jax.Array, **how: Any) -> Any:
        """The result, or the list of results."""
        # JAX looks into the parameters of a primitive for what must know of devices.
        body = self._body(tuple((array.shape, array.dtype) for array in arrays), **how)
        return self.primitive.bind(*arrays, body=body, **how)

    def def_jvp(self, rule: Function) -> None:
        """`rule(primals, tangents, **how)`; a tangent may be `ad.Zero`."""
        ad.primitive_jvps[self.primitive] = lambda *a, body, **how: rule(*a, **how)

    def def_jvp_by_xla(self) -> None:
        """For what is only ever differentiated as a derivative."""

        def jvp(primals: Any, tangents: Any, **how: Any) -> Any:
            tangents = tuple(map(ad.instantiate_zeros, tangents))
            y, dy = jax.jvp(partial(self.by_xla, **how), tuple(primals), tangents)
            return y, dy

        self.def_jvp(jvp)

    def def_transpose(self, rule: Function) -> None:
        """`rule(cotangent, *arguments, **how)`."""
        ad.primitive_transposes[self.primitive] = lambda *a, body, **how: rule(*a, **how)

    def def_bilinear(self, by_first: Function, by_second: Function) -> None:
        """For a product of two: `by_first(cotangent, first, second, **how)`, and the other."""
        ad.defbilinear(
            self.primitive,
            lambda *a, body, **how: by_first(*a, **how),
            lambda *a, body, **how: by_second(*a, **how),
        )

    def _traced(self, arrays: Any, **how: Any) -> ClosedJaxpr:
        arguments = [jax.ShapeDtypeStruct(*array) for array in arrays]
        foreign, by_xla = (partial(way, **how) for way in (self.foreign, self.by_xla))
        return jax.make_jaxpr(self._shared(foreign, by_xla))(*arguments)

    def _mapped(
        self, arrays: Sequence[jax.Array], axes: Sequence[Any], body: Any, **how: Any
    ) -> tuple[Any, Any]:
        """More pictures at once; but a map over kernels is a map over convolutions."""
        mapped = [axis is not None for axis in axes]
        size = next(a.shape[axis] for a, axis, yes in zip(arrays, axes, mapped, strict=True) if yes)
        arrays = [
            jnp.moveaxis(array, axis, 0) if yes else array
            for array, axis, yes in zip(arrays, axes, mapped, strict=True)
        ]
        unusual = any(yes > pictures for yes, pictures in zip(mapped, self._pictures, strict=True))
        if unusual or not all(self._results):
            in_axes = [0 if yes else None for yes in mapped]
            y = jax.vmap(partial(self.by_xla, **how), in_axes)(*arrays)
        else:
            y = self(*map(partial(_merged, size), arrays, mapped, self._pictures), **how)
            y = jax.tree.map(lambda y: y.reshape(size, -1, *y.shape[1:]), y)
        return y, jax.tree.map(lambda _: 0, y)

    def _shared(self, foreign: Function, by_xla: Function) -> Function:
        """Tells JAX that each device computes its own pictures."""
        names = dict.fromkeys(self.rule.replace(",", " ").replace("->", " ").split())
        one, sums = len(self._results) == 1, not all(self._results)

        def partition(mesh: Mesh, shapes: Any, result: Any) -> tuple[Any, ...]:
            spec = tuple(shapes[0].sharding.spec)
            axis = spec[0] if spec else None
            pictures = NamedSharding(mesh, PartitionSpec(axis))
            copied = NamedSharding(mesh, PartitionSpec())
            into = tuple(pictures if yes else copied for yes in self._pictures)
            out = tuple(pictures if yes else copied for yes in self._results)

            def summed(*arrays: jax.Array) -> Any:
                return lax.psum(foreign(*arrays), axis)

            function = summed if sums and axis is not None else foreign
            return mesh, function, out[0] if one else out, into

        @custom_partitioning
        def function(*arrays: jax.Array) -> Any:
            return lax.platform_dependent(*arrays, cpu=foreign, default=by_xla)

        function.def_partition(
            partition,
            sharding_rule=self.rule,
            reduction_factors=("n",) if sums else (),
            need_replication_factors=tuple(name for name in names if name != "n"),
        )
        return function


@cache
def _compiled(body: ClosedJaxpr) -> Function:
    def call(*arrays: jax.Array) -> Any:
        results = jaxpr_as_fun(body)(*arrays)
        return results if len(results) > 1 else results[0]

    return jax.jit(call)


def _merged(size: int, x: jax.Array, is_mapped: bool, pictures: bool) -> jax.Array:
    """[size, B, ...] -> [size * B, ...] of pictures; what else there is stays as it is."""
    if not pictures:
        return x
    x = x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
    return x.reshape(-1, *x.shape[2:])
