"""A picture's bytes as the model's numbers, and back."""

import numpy as np


def to_float(picture: np.ndarray) -> np.ndarray:
    """uint8 in [0, 255] -> float32 in [-1, 1]."""
    if picture.dtype != np.uint8:
        raise ValueError(f"a picture's bytes must be uint8, got {picture.dtype}")
    return picture.astype(np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(picture: np.ndarray) -> np.ndarray:
    """Float in [-1, 1] -> uint8, rounded and clipped; the exact inverse of `to_float`.

    Raises:
        ValueError: for NaN or infinity.
    """
    picture = np.asarray(picture, np.float32)
    bad = np.count_nonzero(~np.isfinite(picture))
    if bad:
        raise ValueError(f"{bad} of the picture's {picture.size} numbers are NaN or infinite")
    return np.rint(np.clip((picture + 1) * 127.5, 0, 255)).astype(np.uint8)
