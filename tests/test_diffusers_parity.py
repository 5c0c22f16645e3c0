"""Side by side with diffusers: every structure, and whole trajectories."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusers_reference import diffusers, predict, random_unet, save_pipeline, torch
from moves import repaint_step

from repaint_jax import NoiseSchedule, RePaint, ResampleSchedule
from repaint_jax.checkpoints import load_diffusers, read_checkpoint
from repaint_jax.methods.repaint import Draws

TIMES = np.array([0, 1, 250, 999])
# As the published google/ddpm-* say it.
GOOGLE = {
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
CIFAR10 = {
    **GOOGLE,
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}
CELEBAHQ = {
    **GOOGLE,
    "sample_size": 64,
    "block_out_channels": (32, 32, 64, 64, 96, 96),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
}
SMALL = {
    "sample_size": 16,
    "block_out_channels": (16, 24),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "norm_eps": 0.03,  # large enough to be missed
}
STRUCTURES = {
    "ddpm-cifar10-32": CIFAR10,
    "ddpm-ema-celebahq-256": CELEBAHQ,
    "scale_shift": {
        **SMALL,
        "resnet_time_scale_shift": "scale_shift",
        "out_channels": 6,
        "layers_per_block": 2,
    },
    "scale_shift_normed": {
        **SMALL,
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 4,
        "act_fn": "mish",
        "class_embed_type": "timestep",
    },
    "resnets_between_levels": {
        **SMALL,
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("AttnDownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D"),
        "up_block_types": ("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "mid_block_scale_factor": 2**0.5,
        "act_fn": "gelu",
    },
    "convolutions_between_levels": {
        **SMALL,
        "down_block_types": ("AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D"),
        "attention_head_dim": 5,  # three heads over 15 of 16 channels, four over 20 of 24
        "num_class_embeds": 10,
        "in_channels": 1,
        "out_channels": 2,
    },
    "given_embedding": {
        **SMALL,
        "class_embed_type": "identity",
        "time_embedding_dim": 40,
        "center_input_sample": True,
        "flip_sin_to_cos": False,
        "add_attention": False,
        "act_fn": "relu",
    },
    "no_middle": {**SMALL, "mid_block_type": None, "freq_shift": 1, "act_fn": "swish"},
    "one_level": {
        **SMALL,
        "block_out_channels": (16,),
        "down_block_types": ("ResnetDownsampleBlock2D",),
        "up_block_types": ("ResnetUpsampleBlock2D",),
    },
}

forward = jax.jit(lambda model, x, t, y: model(x, t) if y is None else model(x, t, y))


def relative_error(out, expected):
    return np.abs(np.asarray(out) - expected).max() / np.abs(expected).max()


def inputs(config):
    rng = np.random.default_rng(1)
    side, channels = config["sample_size"], config.get("in_channels", 3)
    x = rng.normal(size=(len(TIMES), side, side, channels)).astype(np.float32)
    kind = config.get("class_embed_type")
    if kind == "identity":
        return x, TIMES, rng.normal(size=(len(TIMES), 40)).astype(np.float32)
    if kind is None and "num_class_embeds" not in config:
        return x, TIMES, None
    return x, TIMES, np.array([3, 0, 9, 1])


@pytest.mark.slow
@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_are_diffusers(tmp_path, name):
    unet = random_unet(**STRUCTURES[name])
    learned = unet.config.out_channels == 2 * unet.config.in_channels
    variance = "learned_range" if learned else "fixed_small"
    model, _ = load_diffusers(save_pipeline(tmp_path, unet, variance_type=variance))
    given = inputs(STRUCTURES[name])
    expected = predict(unet, *given)
    error = relative_error(forward(model, *given), expected)
    assert expected.std() > 0.1
    assert error < 1e-4
    # What the network is told matters: another timestep is another output.
    assert relative_error(forward(model, given[0], TIMES + 9, given[2]), expected) > 1e-3


def test_files_of_early_versions_load(tmp_path):
    """Other names of attention's projections and of blocks, pickled, all in one folder."""
    unet = random_unet(**SMALL)
    unet.save_pretrained(tmp_path, safe_serialization=False)
    diffusers.DDPMScheduler().save_pretrained(tmp_path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    path = tmp_path / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    for new, early in old.items():
        state = {name.replace(f".{new}.", f".{early}."): value for name, value in state.items()}
    assert sum("proj_attn" in name for name in state) == 8  # 1 + 1 + 2 blocks, weight and bias
    torch.save(state, path)
    config = json.loads((tmp_path / "config.json").read_text())
    for field in ("down_block_types", "up_block_types"):
        config[field] = [f"UNetRes{kind}" for kind in config[field]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    model, _ = load_diffusers(tmp_path)
    given = inputs(SMALL)
    assert relative_error(forward(model, *given), predict(unet, *given)) < 1e-4


@pytest.mark.parametrize(
    "scheduler",
    [
        {},
        {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.01},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400},
        {"beta_schedule": "sigmoid", "beta_end": 0.03},
        {"trained_betas": [0.1, 0.2, 0.3], "num_train_timesteps": 3},
    ],
)
def test_noise_schedules_are_diffusers(tmp_path, scheduler):
    _, noise = load_diffusers(save_pipeline(tmp_path, random_unet(**SMALL), **scheduler))
    expected = diffusers.DDPMScheduler(**scheduler).alphas_cumprod.double().numpy()
    assert noise.num_steps == noise.num_train_steps == len(expected)
    # diffusers multiplies up to 1000 factors in float32.
    np.testing.assert_allclose(noise.alphas_cumprod, expected, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prediction", "variance"),
    [
        *(("epsilon", kind) for kind in ("fixed_small", "fixed_large", "learned_range", "ddim")),
        ("sample", "fixed_small"),
        ("v_prediction", "learned_range"),
    ],
)
def test_trajectories_without_a_picture_are_diffusers(tmp_path, monkeypatch, prediction, variance):
    """Ten reverse steps, the same noise fed to both, nothing known.

    Both visit 0, 100, ..., 900: diffusers' "leading" spacing, ours "ddim10". No other will do for
    DDIM, as diffusers takes the step before t to be t - 1000 / 10 whatever the spacing.
    """
    learned = variance == "learned_range"
    unet = random_unet(**SMALL, out_channels=6 if learned else 3)
    settings = {"prediction_type": prediction, "timestep_spacing": "leading"}
    kind = "fixed_small" if variance == "ddim" else variance
    folder = save_pipeline(tmp_path, unet, variance_type=kind, **settings)
    model, noise = load_diffusers(folder)
    noise = noise.respace("ddim10")
    rng = np.random.default_rng(2)
    start, *draws = rng.normal(size=(11, 8, 8, 3)).astype(np.float32)

    if variance == "ddim":
        scheduler, eta = diffusers.DDIMScheduler(**settings), 0.0
        options = {"eta": 0.0, "use_clipped_model_output": True}
    else:
        scheduler, eta, options = diffusers.DDPMScheduler(variance_type=kind, **settings), 1.0, {}
        remaining = iter(draws)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda *_, **__: torch.from_numpy(next(remaining)).permute(2, 0, 1)[None],
        )
    scheduler.set_timesteps(10)
    np.testing.assert_array_equal(scheduler.timesteps.numpy(), noise.timesteps[::-1])
    expected = torch.from_numpy(start).permute(2, 0, 1)[None]
    for t in scheduler.timesteps:
        output = unet(expected, t).sample
        expected = scheduler.step(output, t, expected, **options).prev_sample

    plan = ResampleSchedule.create(num_steps=10, jump_length=1, num_resamples=1)
    steps = RePaint(eta=eta).tabulate(noise, plan)
    unused = jnp.full((8, 8, 3), jnp.nan)
    nothing = jnp.zeros((8, 8, 1), bool)
    advance = jax.jit(repaint_step, static_argnames="variance")
    x = jnp.asarray(start)
    for i, z in enumerate(draws):
        step = jax.tree.map(lambda numbers, i=i: numbers[i], steps)
        noises = Draws(jnp.asarray(z), jnp.zeros_like(x), jnp.zeros_like(x))
        variance_used = "fixed_large" if variance == "fixed_large" else "fixed_small"
        x = advance(model, x, unused, nothing, step, noises, variance=variance_used)
    assert relative_error(x, expected[0].permute(1, 2, 0).numpy()) < 1e-4


def test_the_schedule_of_the_paper_is_the_published_models(tmp_path):
    _, noise = load_diffusers(save_pipeline(tmp_path, random_unet(**SMALL)))
    np.testing.assert_array_equal(noise.betas, NoiseSchedule.linear(1000).betas)


SOLVERS = [
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "SASolverScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "DEISMultistepScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
@pytest.mark.parametrize("solver", SOLVERS)
def test_of_another_solver_the_training_is_taken_and_the_solver_left(tmp_path, solver):
    training = {"beta_schedule": "scaled_linear", "beta_end": 0.03, "num_train_timesteps": 500}
    random_unet(**SMALL).save_pretrained(tmp_path / "unet")
    saved = getattr(diffusers, solver)(**training, prediction_type="v_prediction")
    saved.save_pretrained(tmp_path / "scheduler")
    read = read_checkpoint(tmp_path)
    np.testing.assert_allclose(read.noise.betas, saved.betas.double().numpy(), rtol=1e-5)
    assert read.prediction == "v"
    assert read.variance == "fixed_small"


def test_pictures_that_are_no_squares_are_read(tmp_path):
    save_pipeline(tmp_path, random_unet(**{**SMALL, "sample_size": (32, 48)}))
    assert read_checkpoint(tmp_path).image_size == (32, 48)


@pytest.mark.parametrize(
    "how",
    [
        {"variant": "fp16"},
        {"variant": "ema", "safe_serialization": False},
        {"max_shard_size": "20KB"},
        {"max_shard_size": "20KB", "variant": "fp16"},
    ],
    ids=str,
)
def test_weights_are_found_however_diffusers_saves_them(tmp_path, how):
    unet = random_unet(**SMALL)
    save_pipeline(tmp_path, unet)
    shutil.rmtree(tmp_path / "unet")
    unet.save_pretrained(tmp_path / "unet", **how)
    assert not (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    if "max_shard_size" in how:
        assert len([*(tmp_path / "unet").glob("*-of-*")]) > 2
    given = inputs(SMALL)
    model = load_diffusers(tmp_path)[0]
    assert relative_error(forward(model, *given), predict(unet, *given)) < 1e-4


def test_a_file_that_lacks_is_named(tmp_path):
    unet = random_unet(**SMALL)
    save_pipeline(tmp_path, unet)
    shutil.rmtree(tmp_path / "unet")
    unet.save_pretrained(tmp_path / "unet", max_shard_size="20KB")
    next((tmp_path / "unet").glob("*-00002-of-*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"of the \d+ files of its weights, .*00001-of-"):
        load_diffusers(tmp_path)
