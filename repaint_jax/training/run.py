"""From a training configuration to its objects, and a run of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from ml_collections import ConfigDict

from repaint_jax.checkpoints import save
from repaint_jax.config import (
    TRAINING,
    argument_errors,
    as_json,
    check_fields,
    config_errors,
    refuse_changes,
)
from repaint_jax.errors import ConfigError
from repaint_jax.loading import named_noise
from repaint_jax.models import UNet
from repaint_jax.pictures.images import save_image
from repaint_jax.runtime.files import write_text
from repaint_jax.runtime.telling import tell
from repaint_jax.runtime.workdirs import refuse_other_kinds
from repaint_jax.schedules import NoiseSchedule
from repaint_jax.training.checkpointing import Checkpoints
from repaint_jax.training.data import Data, load_data
from repaint_jax.training.loop import Intervals, train
from repaint_jax.training.previews import Previews
from repaint_jax.training.step import Optimizer, Settings, Trainer, TrainState
from repaint_jax.training.watch import Watch

# What may be changed when a run is resumed: the state on disk fits all the same.
CHANGEABLE = (
    "num_steps",
    "checkpoint_every",
    "sample_every",
    "optimizer",
    "preview",
    "tensorboard",
)


def run_training(config: ConfigDict, workdir: Path) -> None:
    """Trains what `config` says in `workdir`, or goes on with what is there.

    Nothing is written before all inputs have been read and found good.

    Raises:
        ConfigError, OSError: one line that says what to mend.
    """
    check_fields(config, TRAINING)
    intervals = build_intervals(config)
    with argument_errors():
        noise = named_noise(config.noise.kind, config.noise.num_train_steps)
    settings = build_settings(config)
    model = build_network(config)
    _check_resumed(config, workdir)
    data = build_data(config)
    previews = build_previews(config.preview, noise, data)
    trainer = Trainer(model, noise, settings)
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = trainer.init()
    checkpoints.check_room(state)
    state = checkpoints.restore(state)
    write_text(workdir / "config.json", config.to_json_best_effort(indent=2) + "\n")
    watch = Watch(
        workdir,
        done=int(state.step),
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        tensorboard=config.tensorboard,
    )
    outputs = Outputs(workdir, _about(config), trainer, previews, watch)
    try:
        state = train(
            trainer,
            state,
            data.train,
            intervals=intervals,
            checkpoints=checkpoints,
            watch=watch,
            on_checkpoint=outputs.save_average,
            on_sample=outputs.show,
        )
    except FloatingPointError as error:
        raise ConfigError(str(error)) from error
    finally:
        watch.close()
    outputs.finish(state)


@dataclass(frozen=True)
class Outputs:
    """What a run leaves for use: weights in the native format, and grids of pictures."""

    workdir: Path
    about: dict[str, Any]
    trainer: Trainer
    previews: Previews
    watch: Watch

    def save_average(self, state: TrainState) -> None:
        """Writes ema.safetensors, the weights to use."""
        self._save("ema", state.ema)

    def show(self, state: TrainState) -> None:
        """Writes previews/NAME_STEP.png."""
        step = int(state.step)
        for name, picture in self.previews.draw(self.trainer.model(state.ema)):
            save_image(self.workdir / "previews" / f"{name}_{step:07d}.png", picture)
            self.watch.picture(step, name, picture)

    def finish(self, state: TrainState) -> None:
        """Writes both weights, also where the run had been killed just before."""
        self._save("ema", state.ema)
        self._save("final", state.params)
        tell(f"step {int(state.step)}: {self.workdir / 'ema.safetensors'}")

    def _save(self, name: str, params: Any) -> None:
        save(self.workdir / f"{name}.safetensors", self.trainer.model(params), **self.about)


def build_network(config: ConfigDict) -> UNet:
    """A fresh network for the pictures of `config`."""
    arguments = config.model.to_dict()
    learned, dtype = arguments.pop("learned_variance"), arguments.pop("dtype")
    if dtype not in ("float32", "bfloat16"):
        raise ConfigError(f"config.model.dtype: float32 or bfloat16, not {dtype!r}")
    if config.channels not in (1, 3):
        raise ConfigError(f"config.channels: 1 (grey) or 3 (colour), not {config.channels}")
    with config_errors("config.model"):
        model = UNet(
            image_size=config.image_size,
            in_channels=config.channels,
            out_channels=config.channels * (2 if learned else 1),
            dtype=jnp.dtype(dtype),
            rngs=nnx.Rngs(config.seed),
            **arguments,
        )
    if config.image_size < 1 or config.image_size % model.downsampling:
        raise ConfigError(
            f"config.image_size: this network of {len(config.model.channel_mult)} levels takes "
            f"multiples of {model.downsampling} pixels, not {config.image_size}"
        )
    return model


def build_settings(config: ConfigDict) -> Settings:
    """How to train, as the top level and the section `optimizer` say."""
    # Cores of a CPU share what they can; a GPU that idles is a mistake.
    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    if config.batch_size % (devices * config.micro_batches):
        raise ConfigError(
            f"config.batch_size: {config.batch_size} pictures cannot be spread evenly over devices "
            f"(here {devices}) times micro_batches ({config.micro_batches}); take a multiple of "
            f"{devices * config.micro_batches}"
        )
    if not 0 <= config.ema < 1:
        raise ConfigError(f"config.ema: at least 0 and below 1, not {config.ema}")
    return Settings(
        num_steps=config.num_steps,
        batch_size=config.batch_size,
        micro_batches=config.micro_batches,
        seed=config.seed,
        flip=config.flip,
        ema=config.ema,
        dropout=config.model.dropout > 0,
        optimizer=build_optimizer(config.optimizer),
    )


def build_optimizer(config: ConfigDict) -> Optimizer:
    """The section `optimizer`."""
    for field in ("learning_rate", "clip_norm"):
        if not config[field] > 0:
            raise ConfigError(f"config.optimizer.{field}: above 0, not {config[field]}")
    return Optimizer(**config)


def build_intervals(config: ConfigDict) -> Intervals:
    """How often to log, checkpoint and sample."""
    for field in ("checkpoint_every", "sample_every"):
        if config[field] % config.log_every:
            raise ConfigError(
                f"config.{field}: a multiple of config.log_every, which is {config.log_every}; "
                f"not {config[field]}"
            )
    return Intervals(config.log_every, config.checkpoint_every, config.sample_every)


def build_data(config: ConfigDict) -> Data:
    """The pictures of `config.data`."""
    if not config.data:
        raise ConfigError("config.data: which pictures? Give --config.data=FOLDER, a zip or an npz")
    with config_errors("config.data"):
        return load_data(
            config.data,
            (config.image_size, config.image_size, config.channels),
            num_validation=config.num_validation,
            in_memory=config.in_memory,
            seed=config.seed,
        )


def build_previews(config: ConfigDict, noise: NoiseSchedule, data: Data) -> Previews:
    """The section `preview`."""
    with config_errors("config.preview"):
        noise.respace(config.num_steps)
        return Previews(
            noise,
            data.validation,
            num_samples=config.num_samples,
            num_steps=config.num_steps,
            num_resamples=config.num_resamples,
        )


def _about(config: ConfigDict) -> dict[str, Any]:
    """What belongs to the weights."""
    settings = ("num_steps", "batch_size", "seed", "flip", "ema", "optimizer")
    training = as_json(config)
    return {
        "image_size": config.image_size,
        "noise": config.noise.to_dict(),
        "variance": "learned_range" if config.model.learned_variance else "fixed",
        "prediction": "noise",
        "data": config.data_notice,
        "training": {field: training[field] for field in settings},
    }


def _check_resumed(config: ConfigDict, workdir: Path) -> None:
    """Refuses to go on with a run of another configuration."""
    refuse_other_kinds(workdir, "training run")
    path = workdir / "config.json"
    if not path.is_file():
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), as_json(config)
    fields = sorted({*before, *now} - {*CHANGEABLE})
    refuse_changes(before, now, fields, f"{workdir} holds a run", "take another --workdir")
