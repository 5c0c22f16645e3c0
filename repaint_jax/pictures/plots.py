"""The resample schedule as a picture, and a trajectory as a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from repaint_jax.errors import require
from repaint_jax.files import replacing
from repaint_jax.resampling import ResampleSchedule

_LINE, _DOT = "#3b6ea5", "#d1495b"


def plot_schedule(resampling: ResampleSchedule, path: str | Path) -> None:
    """Draws t over the transitions, as the paper's Fig. 8 does, into a PNG."""
    require("plots", "matplotlib")
    from matplotlib.figure import Figure  # half a second that most starts spare

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    transitions = np.abs(np.diff(resampling.times)).sum()
    axes.plot(_transitions(resampling), resampling.times, color=_LINE, linewidth=1)
    axes.set_title(
        f"{resampling.num_model_calls} network calls, {resampling.num_jumps} jumps, "
        f"{transitions} transitions"
    )
    axes.set_xlabel("transitions")
    axes.set_ylabel("diffusion time t")
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def save_film(
    path: str | Path,
    frames: Sequence[np.ndarray],
    stops: Sequence[int],
    resampling: ResampleSchedule,
    *,
    side: int = 256,
) -> None:
    """Writes a GIF: the noisy picture above the schedule, where a dot shows how far it is.

    Args:
        path: the file.
        frames: uint8[H, W, C] each, the trajectory after each of `stops`.
        stops: numbers of network calls, as by `resampling.film_stops()`.
        resampling: the walk.
        side: the longer side of the enlarged picture, in pixels.
    """
    scale = max(1, round(side / max(frames[0].shape[:2])))
    height, width = (scale * n for n in frames[0].shape[:2])
    background, dots = _small_plot(resampling, stops, max(width, 200))
    images = []
    for frame, (x, y) in zip(frames, dots, strict=True):
        sheet = Image.new("RGB", (background.width, height + background.height), "white")
        picture = np.broadcast_to(frame, (*frame.shape[:2], 3)).repeat(scale, 0).repeat(scale, 1)
        sheet.paste(Image.fromarray(picture), ((background.width - width) // 2, 0))
        sheet.paste(background, (0, height))
        sheet.paste(_DOT, (x - 3, height + y - 3, x + 4, height + y + 4))
        images.append(sheet)
    # The result is what one wants to look at: hold it for two seconds.
    durations = [60] * (len(images) - 1) + [2000]
    with replacing(path) as temporary:
        images[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
        )


def _small_plot(
    resampling: ResampleSchedule, stops: Sequence[int], width: int
) -> tuple[Image.Image, list[tuple[int, int]]]:
    """The schedule in little, and the pixel (x, y) at which each stop lies on it."""
    require("plots", "matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, 0.9), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(_transitions(resampling), resampling.times, color=_LINE, linewidth=0.7)
    axes.set_ylabel("t", fontsize=8)
    axes.tick_params(labelsize=6, labelbottom=False)
    canvas.draw()
    plot = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # After k calls the trajectory stands where the next reverse step begins, or at the end.
    places = np.append(np.flatnonzero(np.diff(resampling.times) == -1), resampling.times.size - 1)[
        list(stops)
    ]
    points = np.column_stack([_transitions(resampling)[places], resampling.times[places]])
    pixels = axes.transData.transform(points).round().astype(int)
    return plot, [(int(x), plot.height - int(y)) for x, y in pixels]


def _transitions(resampling: ResampleSchedule) -> np.ndarray:
    """Transitions done at each of `resampling.times`; a leap of n steps up counts n."""
    return np.append(0, np.cumsum(np.abs(np.diff(resampling.times))))
