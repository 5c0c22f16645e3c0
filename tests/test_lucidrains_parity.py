"""Side by side with denoising-diffusion-pytorch: networks, schedules, walks, a training."""

import itertools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lucidrains_reference import classifier_free_guidance, lucidrains, predict, random_unet, torch
from moves import repaint_step
from PIL import Image

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule, load_pipeline
from repaint_jax.checkpoints import (
    CheckpointError,
    load_lucidrains,
    load_lucidrains_unet,
    read_checkpoint,
)
from repaint_jax.errors import ArgumentError
from repaint_jax.methods.repaint import Draws

ROOT = Path(__file__).parent.parent
TIMES = np.array([0, 1, 250, 999])
SMALL = {"dim": 8, "dim_mults": (1, 2), "attn_heads": 2, "attn_dim_head": 4}
STRUCTURES = {
    "default": {"dim": 8},
    "small": SMALL,
    "flash": {**SMALL, "flash_attn": True, "full_attn": True},
    "linear_at_the_bottom": {**SMALL, "full_attn": (True, False)},
    "learned_variance": {**SMALL, "learned_variance": True},
    "heads_by_level": {
        **SMALL,
        "dim_mults": (1, 3, 2),
        "full_attn": (False, True, False),
        "attn_heads": (1, 2, 3),
        "attn_dim_head": (4, 6, 2),
    },
    "grey_of_another_first_width": {**SMALL, "channels": 1, "init_dim": 12, "dropout": 0.5},
    "learned_sinusoids": {**SMALL, "learned_sinusoidal_cond": True, "learned_sinusoidal_dim": 6},
    "random_fourier_features": {**SMALL, "random_fourier_features": True},
    "one_level": {**SMALL, "dim_mults": (2,)},
}

forward = jax.jit(lambda model, x, t: model(x, t))


def relative_error(out, expected):
    return np.abs(np.asarray(out) - expected).max() / np.abs(expected).max()


def pictures(seed, unet, side=16):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(TIMES), side, side, unet.channels)).astype(np.float32)


@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_are_lucidrains(tmp_path, name):
    unet = random_unet(**STRUCTURES[name])
    torch.save(unet.state_dict(), tmp_path / "unet.pt")
    x = pictures(1, unet)
    expected = predict(unet, x, TIMES)
    model = load_lucidrains_unet(tmp_path / "unet.pt")
    assert expected.std() > 0.05
    assert relative_error(forward(model, x, TIMES), expected) < 1e-4
    # What the network is told matters: another timestep is another output.
    assert relative_error(forward(model, x, TIMES + 9), expected) > 1e-3


def test_the_slowest_wave_is_as_it_is_told(tmp_path):
    unet = random_unet(**SMALL, sinusoidal_pos_emb_theta=50)
    torch.save(unet.state_dict(), tmp_path / "unet.pt")
    x = pictures(1, unet)
    expected = predict(unet, x, TIMES)
    told = load_lucidrains_unet(tmp_path / "unet.pt", sinusoidal_pos_emb_theta=50)
    assert relative_error(forward(told, x, TIMES), expected) < 1e-4
    untold = load_lucidrains_unet(tmp_path / "unet.pt")
    assert relative_error(forward(untold, x, TIMES), expected) > 1e-2


def diffusion_file(path, unet, **settings):
    kind = lucidrains.GaussianDiffusion
    if unet.out_dim == 2 * unet.channels:
        kind = lucidrains.LearnedGaussianDiffusion
    diffusion = kind(unet, image_size=8, **settings)
    torch.save(diffusion.state_dict(), path)
    return diffusion


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("steps", [50, 1000])
def test_noise_schedules_are_lucidrains(tmp_path, kind, steps):
    path = tmp_path / "diffusion.pt"
    unet = random_unet(**SMALL)
    diffusion = diffusion_file(path, unet, beta_schedule=kind, timesteps=steps)
    _, noise = load_lucidrains(path)
    expected = diffusion.alphas_cumprod.double().numpy()
    # One beta of 0.999 in float32 leaves an alpha of five digits.
    np.testing.assert_allclose(noise.alphas_cumprod, expected, rtol=5e-5)
    ours = {"sigmoid": NoiseSchedule.sigmoid_cumprod}.get(kind) or getattr(NoiseSchedule, kind)
    np.testing.assert_allclose(noise.betas, ours(steps).betas, rtol=2e-5)


@pytest.mark.parametrize("gamma", [None, 5, 0.5])
@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("objective", ["pred_noise", "pred_x0", "pred_v"])
def test_the_weights_of_the_loss_tell_the_objective(tmp_path, objective, kind, gamma):
    path = tmp_path / "diffusion.pt"
    snr = {} if gamma is None else {"min_snr_loss_weight": True, "min_snr_gamma": gamma}
    diffusion_file(path, random_unet(**SMALL), objective=objective, beta_schedule=kind, **snr)
    assert read_checkpoint(path).prediction == objective.removeprefix("pred_")


def same_draws(monkeypatch, start, draws):
    """What lucidrains' samplers draw: first x_T, then noise for each step."""
    given = [torch.from_numpy(z).permute(2, 0, 1)[None] for z in (start, *draws)]
    remaining = iter(given)
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(remaining))
    monkeypatch.setattr(torch, "randn_like", lambda *_, **__: next(remaining))


def our_trajectory(model, noise, start, draws, eta):
    """Reverse steps alone: nothing is known."""
    plan = ResampleSchedule.create(num_steps=len(draws), jump_length=1, num_resamples=1)
    steps = RePaint(eta=eta).tabulate(noise, plan)
    unused, nothing = jnp.full(start.shape, jnp.nan), jnp.zeros((*start.shape[:2], 1), bool)
    advance = jax.jit(repaint_step, static_argnames="variance")
    x = jnp.asarray(start)
    for i, z in enumerate(draws):
        step = jax.tree.map(lambda numbers, i=i: numbers[i], steps)
        noises = Draws(jnp.asarray(z), jnp.zeros_like(x), jnp.zeros_like(x))
        x = advance(model, x, unused, nothing, step, noises, variance="fixed_small")
    return x


@pytest.mark.filterwarnings("ignore:.*tqdm.*")
@pytest.mark.parametrize(
    ("objective", "sampling"),
    [
        *itertools.product(
            ["pred_noise", "pred_x0", "pred_v"], ["ddpm", "ddim", "ddim of eta 0.7"]
        ),
        ("learned variance", "ddpm"),  # its DDIM has not imported a name that it uses, in 2.3.4
    ],
)
def test_trajectories_without_a_picture_are_lucidrains(tmp_path, monkeypatch, objective, sampling):
    learned = objective == "learned variance"
    unet = random_unet(**SMALL, learned_variance=learned)
    training = {"objective": "pred_noise" if learned else objective, "timesteps": 40}
    eta = {"ddpm": 1.0, "ddim": 0.0}.get(sampling, 0.7)
    count = 40 if sampling == "ddpm" else 8
    diffusion = diffusion_file(
        tmp_path / "model.pt",
        unet,
        **training,
        sampling_timesteps=count,
        ddim_sampling_eta=eta,
    )
    start, *draws = np.random.default_rng(3).normal(size=(count + 1, 8, 8, 3)).astype(np.float32)
    same_draws(monkeypatch, start, draws)
    expected = 2 * diffusion.sample(batch_size=1)[0].permute(1, 2, 0).numpy() - 1

    model, noise = load_lucidrains(tmp_path / "model.pt")
    if sampling != "ddpm":
        noise = noise.respace(np.linspace(-1, 39, count + 1).astype(int)[1:].tolist())
    out = our_trajectory(model, noise, start, draws, eta)
    assert expected.std() > 0.1
    assert relative_error(out, expected) < 1e-3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What its `Trainer` writes after a few steps on pictures of one colour each, and these."""
    folder = tmp_path_factory.mktemp("training")
    faces = folder / "faces"
    faces.mkdir()
    for i in range(100):
        Image.new("RGB", (16, 16), (2 * i, 128, 255 - 2 * i)).save(faces / f"{i}.png")
    unet = lucidrains.Unet(dim=8, dim_mults=(1, 2), attn_heads=2, attn_dim_head=4)
    diffusion = lucidrains.GaussianDiffusion(unet, image_size=16, timesteps=50)
    trainer = lucidrains.Trainer(
        diffusion,
        str(faces),
        train_batch_size=16,
        gradient_accumulate_every=1,
        train_num_steps=12,
        save_and_sample_every=1000,
        num_samples=1,
        results_folder=str(folder),
        calculate_fid=False,
    )
    trainer.train()
    trainer.save(1)
    return folder / "model-1.pt", faces, trainer.ema.ema_model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_file_of_its_trainer_inpaints_with_one_command(trained, tmp_path):
    path, faces, averaged = trained
    model, noise = load_lucidrains(path)
    x = pictures(2, averaged.model)
    times = np.array([0, 1, 25, 49])
    assert relative_error(forward(model, x, times), predict_v(averaged, noise, x, times)) < 1e-4
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/inpaint.py", f"--config={ROOT / 'configs/celeba.py'}",
         f"--config.model.path={path}", "--config.model.image_size=16",
         f"--config.image={faces / '3.png'}", "--config.num_samples=2",
         "--config.noise.num_steps=10", f"--workdir={tmp_path / 'out'}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out/inpainted/3_1.png") as picture:
        found = np.array(picture)
    assert (found[:, :8] == (6, 128, 249)).all()
    assert found[:, 8:].std() > 0


def predict_v(diffusion, noise, x, t):
    """The noise by what it predicts by default, v: eps = sqrt(ac) v + sqrt(1 - ac) x."""
    assert diffusion.objective == "pred_v"
    ac = noise.alphas_cumprod[t][:, None, None, None]
    return np.sqrt(ac) * predict(diffusion.model, x, t) + np.sqrt(1 - ac) * x


@pytest.mark.filterwarnings("ignore")
def test_the_size_that_no_file_tells_is_asked_for(trained):
    with pytest.raises(ArgumentError, match="image_size"):
        load_pipeline(trained[0])
    assert load_pipeline(trained[0], image_size=16).noise.num_train_steps == 50


def test_pictures_in_the_unit_range_are_told(tmp_path):
    unet = random_unet(**SMALL)
    diffusion_file(tmp_path / "model.pt", unet, auto_normalize=False, timesteps=100)
    model, noise = load_lucidrains(tmp_path / "model.pt", unit_range=True)
    _, trained_with = load_lucidrains(tmp_path / "model.pt")
    y0 = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    eps = np.random.default_rng(1).normal(size=y0.shape).astype(np.float32)
    t = np.array([0, 10, 50, 99])
    ac, wider = (n.alphas_cumprod[t][:, None, None, None] for n in (trained_with, noise))
    x = np.sqrt(ac) * (y0 + 1) / 2 + np.sqrt(1 - ac) * eps  # the same picture and noise, for both
    y = np.sqrt(wider) * y0 + np.sqrt(1 - wider) * eps
    v = predict(unet, x.astype(np.float32), t)
    expected = np.sqrt(ac) * v + np.sqrt(1 - ac) * x
    assert relative_error(forward(model, y.astype(np.float32), t), expected) < 1e-4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"self_condition": True}, "trained with self_condition, .* not supported"),
        ({"out_dim": 5}, "takes 3 channels and returns 5"),
    ],
)
def test_what_is_not_supported_is_said(tmp_path, config, message):
    torch.save(lucidrains.Unet(**SMALL, **config).state_dict(), tmp_path / "unet.pt")
    with pytest.raises(CheckpointError, match=message):
        load_lucidrains_unet(tmp_path / "unet.pt")


def test_other_networks_of_the_package_are_refused(tmp_path):
    one = lucidrains.Unet1D(dim=8, dim_mults=(1, 2), channels=3)
    torch.save(one.state_dict(), tmp_path / "one.pt")
    with pytest.raises(CheckpointError, match=r"data of 1 dimensions; pictures have 2"):
        load_lucidrains_unet(tmp_path / "one.pt")
    guided = classifier_free_guidance.Unet(**SMALL, num_classes=3)
    torch.save(guided.state_dict(), tmp_path / "guided.pt")
    with pytest.raises(CheckpointError, match=r"of classifier_free_guidance, .* not supported"):
        load_lucidrains(tmp_path / "guided.pt")
    torch.save(torch.nn.Linear(3, 3).state_dict(), tmp_path / "unknown.pt")
    with pytest.raises(CheckpointError, match="whose attention has mem_kv"):
        load_lucidrains(tmp_path / "unknown.pt")
    waves = random_unet(**STRUCTURES["learned_sinusoids"])
    torch.save(waves.state_dict(), tmp_path / "waves.pt")
    with pytest.raises(CheckpointError, match="in continuous time: load_lucidrains_unet loads"):
        load_lucidrains(tmp_path / "waves.pt")
    torch.save(random_unet(**SMALL).state_dict(), tmp_path / "alone.pt")
    with pytest.raises(CheckpointError, match=r"does not tell the betas .* save diffusion"):
        load_lucidrains(tmp_path / "alone.pt")
    with pytest.raises(ArgumentError, match="noise_kind"):
        load_pipeline(tmp_path / "alone.pt", image_size=16)
    told = {"noise_kind": "linear", "num_train_steps": 100}
    with pytest.raises(ArgumentError, match="prediction: the model's file does not tell"):
        load_pipeline(tmp_path / "alone.pt", image_size=16, **told)
    assert load_pipeline(tmp_path / "alone.pt", image_size=16, prediction="v", **told).channels == 3
