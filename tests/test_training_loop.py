"""The loop around the updates, with a network that compiles at once."""

import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image
from training_toys import tiny_pictures, tiny_trainer

from repaint_jax.training.checkpointing import Checkpoints
from repaint_jax.training.data import load_data
from repaint_jax.training.loop import Intervals, train
from repaint_jax.training.watch import Watch

INTERVALS = Intervals(log_every=2, checkpoint_every=4, sample_every=6)


def go(workdir, trainer, pictures):
    """Trains in `workdir` from where it is; the steps of checkpoints and samples, and the end."""
    checkpoints = Checkpoints(workdir / "checkpoints")
    state = checkpoints.restore(trainer.init())
    settings = trainer.settings
    watch = Watch(
        workdir,
        done=int(state.step),
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        tensorboard=False,
    )
    saved, shown = [], []
    state = train(
        trainer,
        state,
        pictures,
        intervals=INTERVALS,
        checkpoints=checkpoints,
        watch=watch,
        on_checkpoint=lambda state: saved.append(int(state.step)),
        on_sample=lambda state: shown.append(int(state.step)),
    )
    watch.close()
    return saved, shown, state


def test_checkpoints_and_samples_come_in_their_rhythm_and_at_the_end(tmp_path):
    trainer = tiny_trainer(num_steps=13)
    saved, shown, state = go(tmp_path, trainer, tiny_pictures())
    assert saved == [4, 8, 12, 13]
    assert shown == [6, 12, 13]
    assert int(state.step) == 13
    saved, shown, _ = go(tmp_path, trainer, tiny_pictures())
    assert saved == shown == []  # there is nothing left to do


@pytest.mark.parametrize("in_memory", [True, False])
def test_going_on_from_a_checkpoint_is_as_if_nothing_had_been(tmp_path, in_memory):
    if not in_memory:
        pytest.importorskip("grain")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(tiny_pictures()):
        Image.fromarray(picture[..., 0]).save(folder / f"{i}.png")
    data, _ = load_data(str(folder), (8, 8, 1), num_validation=0, in_memory=in_memory)
    trainer = tiny_trainer(num_steps=8)
    _, _, whole = go(tmp_path, trainer, data)
    metrics = (tmp_path / "metrics.jsonl").read_bytes()
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    saved, _, again = go(tmp_path, trainer, data)
    assert saved == [8]
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics
    for one, other in zip(jax.tree.leaves(whole.ema), jax.tree.leaves(again.ema), strict=True):
        assert np.array_equal(one, other)


def test_without_tensorboard_the_training_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    watch = Watch(tmp_path, done=0, num_steps=8, batch_size=1, tensorboard=True)
    watch.picture(0, "samples", np.zeros((8, 8, 3), np.uint8))
    watch.close()
    told = capsys.readouterr().err.splitlines()[0]
    assert told == "no TensorBoard summaries: pip install 'repaint-jax[training]' to have them"
