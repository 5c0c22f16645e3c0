"""What the process of one contestant does: this project, or PyTorch eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .machine import matrix_product, peak_memory
from .ours import Ours, Workload
from .rounds import Contestant
from .workers import serve


def serve_row(name: str, work: Workload, folder: Path) -> None:
    """Serves the rounds of "jax", "eager" or "compiled" to a `Worker`.

    Its actions are the contestants; `names` of them; `predict`, which saves the network's output;
    `product`, matrix products, which tells their floating-point operations; `memory`, bytes that
    this project's network needs; `compile_seconds` that it took; and `peak_memory`.
    """
    ours = Ours(work)
    model = ours.random_model()
    contestants: dict[str, Contestant]
    if name == "jax":
        contestants = ours.contestants(model, folder)
        predict: Callable[[], np.ndarray] = lambda: ours.prediction(model)  # noqa: E731
        product, memory = matrix_product, peak_memory
    else:
        from . import peers

        peers.prepare_torch()
        theirs = peers.Peers(work, model)
        contestants = theirs.contestants(name)
        predict, product = theirs.prediction, peers.torch_matrix_product
        memory = lambda: peers.peak_memory_of_torch() or peak_memory()  # noqa: E731
    # Made at its first use: the matrices are not part of the peak memory before.
    made = cache(lambda: product(work.dtype))

    def products() -> float:
        run, flops = made()
        run()
        return flops

    actions: dict[str, Callable[..., Any]] = {
        **contestants,
        "names": lambda: list(contestants),
        "predict": lambda path: np.save(path, predict()),
        "product": products,
        "memory": lambda: ours.memory,
        "compile_seconds": lambda: ours.compile_seconds,
        "peak_memory": memory,
    }
    serve(actions)
