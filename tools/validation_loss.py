"""The validation loss of models by noise level: python tools/validation_loss.py PICTURES MODEL...

The mean of |eps - eps_theta(x_t, t)|^2 over values, for the same pictures and the same noise at
every level and in every model of one size, so that models can be compared far more finely than by
their loss in training. PICTURES is what `scripts/train.py --data` takes; a MODEL is what
`load_pipeline` takes. Prints a table in Markdown: a row for a level, a column for a model.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from repaint_jax import Pipeline, load_pipeline
from repaint_jax.denoisers import split_output
from repaint_jax.pixels import to_float
from repaint_jax.training.data import load_data


def losses(
    pipeline: Pipeline, pictures: np.ndarray, levels: np.ndarray, batch_size: int, name: str
) -> np.ndarray:
    """The loss of each level and picture: float64[L, N]."""
    signal, sigma = (
        np.sqrt(ac).astype(np.float32)
        for ac in (pipeline.noise.alphas_cumprod, 1 - pipeline.noise.alphas_cumprod)
    )

    @jax.jit
    def each(x0: jax.Array, numbers: jax.Array, level: jax.Array) -> jax.Array:
        def draw(number: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), number), level)
            return jax.random.normal(key, x0.shape[1:])

        eps = jax.vmap(draw)(numbers)
        x = jnp.asarray(signal)[level] * x0 + jnp.asarray(sigma)[level] * eps
        noise, _ = split_output(pipeline.model(x, jnp.full(len(x), level)), x)
        return jnp.mean((noise - eps) ** 2, (1, 2, 3))

    found = np.zeros((len(levels), len(pictures)))
    batches = range(0, len(pictures) - batch_size + 1, batch_size)
    for first in tqdm(batches, desc=name):
        rows = np.arange(first, first + batch_size)
        for i, level in enumerate(levels):
            found[i, rows] = each(to_float(pictures[rows]), rows, level)
    return found[:, : batches[-1] + batch_size]


def main() -> None:
    """Reads the arguments, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--num_pictures", type=int, default=512)
    parser.add_argument("--num_levels", type=int, default=10, help="in the middles of equal parts")
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    columns = []
    for name in args.models:
        pipeline = load_pipeline(name, dtype="auto")
        shape = (*pipeline.shape, pipeline.channels)
        pictures = load_data(args.pictures, shape, num_validation=args.num_pictures).validation
        steps = pipeline.noise.num_steps
        levels = ((np.arange(args.num_levels) + 0.5) * steps / args.num_levels).astype(int)
        columns.append(losses(pipeline, pictures, levels, args.batch_size, name))
    print("| t |", " | ".join(args.models), "|")
    print("|---|" + "---|" * len(columns))
    for i, level in enumerate(levels):
        print(f"| {level} |", " | ".join(f"{column[i].mean():.5f}" for column in columns), "|")
    print("| mean |", " | ".join(f"{column.mean():.5f}" for column in columns), "|")
    for name, column in zip(args.models[1:], columns[1:], strict=True):
        if column.shape == columns[0].shape:
            gap = (column - columns[0]).mean(0)
            error = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
            print(f"\n{name} minus {args.models[0]}: {gap.mean():.5f} +- {error:.5f} (95 %)")


if __name__ == "__main__":
    main()
