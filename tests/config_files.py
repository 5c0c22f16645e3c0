"""The configurations that users run."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def load_config(name="celeba32"):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config().lock()
    if config.get("model", {}).get("dtype") == "auto":  # tests compute the same on any machine
        config.model.dtype = "float32"
    return config
