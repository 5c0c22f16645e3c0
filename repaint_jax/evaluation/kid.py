"""KID, the kernel inception distance (Binkowski et al. 2018), here on AlexNet's features.

How far the distribution of completed pictures is from that of the real ones, whatever a picture's
own original looks like: what is plausible is not punished, and what is blurred is not rewarded, as
it is by LPIPS, PSNR and SSIM. Its features are LPIPS's, each layer's averaged over the picture, so
that its values can be compared with each other and not with those of Inception's features.
"""

from __future__ import annotations

import numpy as np

from repaint_jax.evaluation.lpips import NUM_LAYERS

SCALE = 1000  # KID is told in thousandths


def kid_by_picture(completed: np.ndarray, real: np.ndarray) -> np.ndarray | None:
    """KID, picture by picture: values whose mean it is, and whose spread is its uncertainty.

    The unbiased estimator of the squared maximum mean discrepancy for pairs (Gretton et al. 2012,
    Lemma 6) under the kernel (x.y / layers + 1)^3. It leaves out how near a completed picture is to
    its own original, with which it shares the known pixels. The values are the jackknife's
    pseudo-values: Student's interval of their mean, and of the mean of two methods' differences, is
    the jackknife's of the estimate.

    Args:
        completed: f64[N, F], features of the completed pictures.
        real: f64[N, F], of their originals.

    Returns:
        f64[N], in thousandths; None below three pictures.
    """
    count = len(completed)
    if count < 3:
        return None
    across = _kernel(completed, real)
    pairs = _kernel(completed, completed) + _kernel(real, real) - across - across.T
    np.fill_diagonal(pairs, 0)
    of_picture, total = pairs.sum(1), pairs.sum()
    estimate = total / (count * (count - 1))
    without = (total - 2 * of_picture) / ((count - 1) * (count - 2))
    return SCALE * (count * estimate - (count - 1) * without)


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / NUM_LAYERS + 1) ** 3
