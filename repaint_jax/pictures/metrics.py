"""How close two pictures are, and how sharp one is, over the hole or any other part.

All take `uint8` pictures, [H, W, C] or [H, W], and an optional region `where`, bool[H, W]: the hole
is `~known`. All return None for a region without pixels.
"""

import math

import numpy as np

_SSIM_WINDOW = 11  # a Gaussian of sigma 1.5, cut at 3.5 sigma


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared difference).

    Returns:
        The ratio; `math.inf` for equal pictures (JSON has no infinity: write it as "inf"); None for
        an empty region.
    """
    region = _region(a, b, where)
    if not region.any():
        return None
    error = np.mean((a[region].astype(float) - b[region]) ** 2)
    return math.inf if error == 0 else float(10 * np.log10(255**2 / error))


def ssim(a: np.ndarray, b: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Structural similarity as in Wang et al. (2004), averaged over a region and the channels.

    Each pixel's value compares its Gaussian neighbourhood (11 pixels across) in the two pictures,
    so that near its edge a region sees what is beyond. The picture's own border counts too
    (reflected), unlike in the mean of `skimage.metrics.structural_similarity`: holes reach there.

    Returns:
        A number up to 1, for equal pictures; None for an empty region, or a side below 11 pixels.
    """
    region = _region(a, b, where)
    if not region.any() or min(region.shape) < _SSIM_WINDOW:
        return None
    from skimage.metrics import structural_similarity  # a fifth of a second that most starts spare

    _, similarity = structural_similarity(
        a,
        b,
        data_range=255,
        channel_axis=2 if a.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[region].mean())


def roughness(picture: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """Root mean square difference of neighbours, both in the region, in levels of 255.

    Over that of the original it tells whether a filled hole is as sharp, or blurred.

    Returns:
        The difference; None if no two pixels of the region are neighbours.
    """
    region = _region(picture, picture, where)
    squares = []
    for axis in (0, 1):
        both = np.take(region, range(1, region.shape[axis]), axis)
        both = both & np.take(region, range(region.shape[axis] - 1), axis)
        squares.append(np.diff(picture.astype(float), axis=axis)[both] ** 2)
    found = np.concatenate([each.ravel() for each in squares])
    return float(np.sqrt(found.mean())) if found.size else None


def _region(a: np.ndarray, b: np.ndarray, where: np.ndarray | None) -> np.ndarray:
    """bool[H, W], everything by default, after checking that the pictures can be compared."""
    if a.shape != b.shape or a.ndim not in (2, 3):
        raise ValueError(f"pictures must have one shape, [H, W, C] or [H, W]: {a.shape}, {b.shape}")
    if a.dtype != np.uint8 or b.dtype != np.uint8:
        raise ValueError(f"pictures to compare must be uint8, got {a.dtype} and {b.dtype}")
    if where is None:
        return np.ones(a.shape[:2], bool)
    if where.dtype != bool or where.shape != a.shape[:2]:
        raise ValueError(f"where must be bool{list(a.shape[:2])}, got {where.dtype}{where.shape}")
    return where
