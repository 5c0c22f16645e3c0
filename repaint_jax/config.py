"""The fields of a configuration for inpainting, and what they hold."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from repaint_jax.errors import ConfigError

# configs/celeba.py tells what each of them means. A float may be given as an int.
FIELDS: dict[str, Any] = {
    "image": str | None,
    "mask": str,
    "invert_mask": bool,
    "num_samples": int,
    "batch_size": int,
    "seed": int,
    "model": {
        "path": str | None,
        "source": str | None,
        "image_size": object,
        "dtype": str,
        "num_heads": int | None,
        "num_head_channels": int,
        "use_new_attention_order": bool,
        "class_label": int | None,
        "classifier_path": str | None,
        "classifier_source": str | None,
        "guidance_scale": float,
    },
    "noise": {"kind": str | None, "num_train_steps": int | None, "num_steps": str | int},
    "resampling": {"jump_length": int, "num_resamples": int, "start_resampling": int | None},
    "sampler": {"clip_denoised": bool | None, "variance": str | None, "eta": float},
}


def check_fields(config: ConfigDict, fields: dict[str, Any] = FIELDS, section: str = "") -> None:
    """Checks that all `fields` are there and of their types; a user's own file may hold anything.

    Raises:
        ConfigError: one is not.
    """
    for name, kind in fields.items():
        field = f"config.{section}{name}"
        if name not in config:
            raise ConfigError(f"{field}: it is missing; configs/celeba.py has all fields")
        value = config[name]
        if isinstance(kind, dict):
            if not isinstance(value, ConfigDict):
                raise ConfigError(f"{field}: expected a section of fields, not {value!r}")
            check_fields(value, kind, f"{section}{name}.")
        elif not isinstance(value, float | int if kind is float else kind):
            expected = kind.__name__ if isinstance(kind, type) else kind
            raise ConfigError(f"{field}: expected {expected}, not {value!r}")
