"""From a configuration to a folder of results, and every mistake on the way there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from config_files import load_config
from flax import nnx
from golden_networks import checkpoint
from PIL import Image

from repaint_jax.checkpoints import CheckpointError, load, load_about, save
from repaint_jax.errors import ArgumentError, ConfigError, ImageError
from repaint_jax.inpainting.run import run_inpainting, run_schedule_plot
from repaint_jax.loading import picture_shape
from repaint_jax.models import EncoderUNet, UNet

ROOT = Path(__file__).parent.parent
SIDE = 16


@pytest.fixture
def faces(tmp_path):
    """Two pictures that are no squares, one grey."""
    folder = tmp_path / "faces"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "a.png")
    Image.fromarray(rng.integers(0, 256, (24, 24), np.uint8)).save(folder / "b.png")
    return folder


@pytest.fixture
def config(tiny, faces):
    config = load_config()
    config.update(
        {
            "image": str(faces),
            "num_samples": 2,
            "batch_size": 3,
            "model": {"path": str(tiny)},
            "noise": {"num_steps": "4"},
            "resampling": {"jump_length": 2, "num_resamples": 2},
        }
    )
    return config


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


def test_a_run_writes_everything_and_keeps_known_pixels_byte_for_byte(config, tmp_path, capsys):
    out = tmp_path / "out"
    run_inpainting(config, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json", "grid.png", "inpainted", "known_mask", "masked", "metrics.json",
        "original", "process.gif",
    ]  # fmt: skip
    names = [f"{picture}_{sample}.png" for picture in "ab" for sample in range(2)]
    assert sorted(path.name for path in (out / "inpainted").iterdir()) == names
    for name in names:
        picture = read(out / "inpainted" / name)
        original = read(out / "original" / f"{name[0]}.png")
        known = read(out / "known_mask" / f"{name[0]}.png") == 255
        assert picture.shape == original.shape == (SIDE, SIDE, 3)
        assert np.array_equal(picture[known], original[known])
        assert not np.array_equal(picture[~known], original[~known])
        assert known[:, : SIDE // 2].all()
        assert not known[:, SIDE // 2 :].any()
        shown = read(out / "masked" / f"{name[0]}.png")
        assert np.array_equal(shown[known], original[known])
    assert not np.array_equal(*(read(out / "inpainted" / name) for name in names[:2]))
    metrics = json.loads((out / "metrics.json").read_text())
    assert [(row["picture"], row["sample"]) for row in metrics["pictures"]] == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1),
    ]  # fmt: skip
    row = metrics["pictures"][0]
    assert row["psnr_known"] == metrics["mean"]["psnr_known"] == "inf"
    assert 0 < row["psnr_hole"] < 30
    assert metrics["calls"] == row["calls"] == 6  # T = 4 and one jump of 2
    assert metrics["seconds"] > 0
    assert metrics["compile_seconds"] >= 0  # another test may have compiled it
    assert row["seconds_per_call"] == pytest.approx(row["seconds"] / 6)
    with Image.open(out / "process.gif") as film:
        assert film.n_frames == 6
    assert json.loads((out / "config.json").read_text())["num_samples"] == 2
    progress = capsys.readouterr()
    assert "12/12" in progress.err  # two batches of six calls
    assert "grid.png" in progress.out


def test_the_same_run_gives_the_same_pictures_whatever_the_batch_size(config, tmp_path):
    files = {}
    for name, batch_size in (("once", 3), ("again", 3), ("alone", 1)):
        config.batch_size = batch_size
        run_inpainting(config, tmp_path / name)
        files[name] = [
            path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*"))
            if path.suffix in (".png", ".gif")
        ]
        assert len(files[name]) == 12
    assert files["once"] == files["again"] == files["alone"]
    config.seed = 1
    run_inpainting(config, tmp_path / "seed")
    one, other = (read(tmp_path / name / "inpainted" / "a_0.png") for name in ("once", "seed"))
    assert not np.array_equal(one, other)


def test_a_run_of_other_pictures_masks_seed_and_weights_compiles_nothing(config, tmp_path):
    run_inpainting(config, tmp_path / "once")
    for name in "ab":
        Image.new("RGB", (SIDE, SIDE), "blue").save(tmp_path / "faces" / f"{name}.png")
    other = load(config.model.path)
    other.out_conv.bias[...] = np.linspace(-0.5, 0.5, 6, dtype=np.float32)
    save(tmp_path / "other.safetensors", other, **load_about(config.model.path))
    config.update(
        {"mask": "wide", "seed": 7, "model": {"path": str(tmp_path / "other.safetensors")}}
    )
    with compilations() as compiled:
        run_inpainting(config, tmp_path / "again")
    assert compiled == []
    once, again = (read(tmp_path / run / "inpainted" / "a_0.png") for run in ("once", "again"))
    assert not np.array_equal(once, again)


def test_mask_files_are_paired_by_name_and_inverted_on_demand(config, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    keep = {"a": np.zeros((20, 30), np.uint8), "b": np.zeros((24, 24), np.uint8)}
    keep["a"][:, 10:] = 255
    keep["b"][:12] = 255
    for name, mask in keep.items():
        Image.fromarray(mask).save(folder / f"{name}.png")
    config.mask = str(folder)
    config.window = "centre"
    config.num_samples = 1
    run_inpainting(config, tmp_path / "out")
    masks = {name: read(tmp_path / "out" / "known_mask" / f"{name}.png") for name in "ab"}
    # a's file is 20 x 30, cropped to its middle 20 columns: 5 of the hole's 10 remain, of 20.
    assert (masks["a"] == 0).mean(0).tolist() == [1] * 4 + [0] * 12
    assert (masks["b"] == 255).mean(1).tolist() == [1] * 8 + [0] * 8
    config.invert_mask = True
    run_inpainting(config, tmp_path / "inverted")
    inverted = read(tmp_path / "inverted" / "known_mask" / "b.png")
    assert np.array_equal(inverted, 255 - masks["b"])


def test_pictures_of_one_stem_keep_their_results_apart(config, faces, tmp_path):
    Image.new("RGB", (20, 20), "red").save(faces / "a.jpg")
    config.num_samples = 1
    run_inpainting(config, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "inpainted").iterdir()) == [
        "a_jpg_0.png", "a_png_0.png", "b_0.png",
    ]  # fmt: skip


@pytest.mark.parametrize("mask", ["expand", "alternating_lines", "super_resolution", "wide", "box"])
def test_every_generated_mask_is_used(config, tmp_path, mask):
    config.mask = mask
    config.num_samples = 1
    run_inpainting(config, tmp_path / "out")
    known = [read(tmp_path / "out" / "known_mask" / f"{name}.png") == 255 for name in "ab"]
    assert 0 < known[0].mean() < 1
    assert np.array_equal(*known) == (mask != "wide")  # random masks differ by picture


def test_a_generated_mask_can_be_inverted(config, tmp_path):
    config.mask = "expand"
    config.invert_mask = True
    config.num_samples = 1
    run_inpainting(config, tmp_path / "out")
    known = read(tmp_path / "out" / "known_mask" / "a.png") == 255
    assert known.mean() == 15 / 16
    assert not known[6:10, 6:10].any()


def test_networks_that_are_no_diffusion_models_of_pictures_are_refused(config, tmp_path):
    arguments = {
        "model_channels": 32,
        "channel_mult": (1,),
        "num_res_blocks": 1,
        "attention_resolutions": (),
    }
    classifier = EncoderUNet(**arguments, image_size=SIDE, out_channels=2, rngs=nnx.Rngs(0))
    about = {"noise": {"kind": "linear", "num_train_steps": 1000}, "image_size": SIDE}
    save(tmp_path / "classifier.safetensors", classifier, **about)
    with pytest.raises(ConfigError, match="is a classifier"):
        run_inpainting(
            change(config, model__path=str(tmp_path / "classifier.safetensors")), tmp_path / "out"
        )
    latents = UNet(**arguments, in_channels=4, out_channels=4, rngs=nnx.Rngs(0))
    save(tmp_path / "latents.safetensors", latents, **about)
    with pytest.raises(ConfigError, match="takes 4 channels; pictures have 1 or 3"):
        run_inpainting(
            change(config, model__path=str(tmp_path / "latents.safetensors")), tmp_path / "out"
        )


@pytest.mark.parametrize(
    ("name", "side"), [("celeba", 64), ("celeba32", 32), ("fashion_mnist", 28)]
)
def test_a_model_in_the_box_fills_its_pictures_as_its_configuration_says(name, side, tmp_path):
    config = load_config(name)
    change(config, num_samples=1, noise__num_steps="2", batch_size=2)
    run_inpainting(config, tmp_path / "out")
    pictures = list((tmp_path / "out" / "inpainted").iterdir())
    assert len(pictures) == (10 if name == "fashion_mnist" else 1)
    assert read(pictures[0]).shape[:2] == (side, side)


def change(config, **fields):
    with config.unlocked(), config.ignore_type():
        for name, value in fields.items():
            section, _, field = name.rpartition("__")
            if section:
                config[section][field] = value
            else:
                config[name] = value
    return config


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"image": "nowhere.png"}, ImageError, "nowhere.png: expected a picture, a folder"),
        ({"mask": "hlaf"}, ImageError, "expected one of wide, narrow.*hlaf"),
        ({"image": ""}, ConfigError, "config.image: no picture is given"),
        ({"model__path": None}, ConfigError, "config.model.path: no checkpoint is given"),
        ({"num_samples": 0}, ConfigError, "config.num_samples: from 1 to 100000, not 0"),
        ({"seed": -1}, ConfigError, "config.seed: from 0 to 4294967295, not -1"),
        pytest.param(
            {"model__image_size": 3},
            ImageError,
            "half: a mask needs sides of at least 4",
            marks=pytest.mark.filterwarnings("ignore:.*pictures of 3x3"),
        ),
        ({"batch_size": -1}, ConfigError, "config.batch_size: at least 1, not -1"),
        (
            {"model__path": "no/file.pt"},
            ConfigError,
            "no file no/file.pt.*in the box: celeba32, celeba64",
        ),
        ({"model__dtype": "float8"}, ConfigError, "config.model.dtype: float32, bfloat16 or auto"),
        ({"model__image_size": 0}, None, ""),
        ({"model__image_size": -8}, ConfigError, "config.model.image_size: .* multiples of 1"),
        ({"noise__num_steps": "1001"}, ConfigError, "config.noise: cannot visit 1001 of 1000"),
        ({"noise__num_steps": "few"}, ConfigError, "config.noise: steps must be given as 250"),
        (
            {"noise__kind": "cosine"},
            ConfigError,
            "another schedule.*remove 'cosine'",
        ),
        ({"noise__num_train_steps": 500}, ConfigError, "num_train_steps: .* trained with 1000"),
        ({"resampling__jump_length": 0}, ConfigError, "config.resampling: jump_length must be"),
        ({"resampling__num_resamples": 0}, ConfigError, "num_resamples must be at least 1"),
        ({"method": "repaint(variance='learned')"}, ConfigError, "fixed_small or fixed_large"),
        ({"method": "repaint(eta=1.5)"}, ConfigError, "config.method: .* eta: from 0"),
        ({"method": "repaint(1.5)"}, ConfigError, "config.method: expected values by name"),
        ({"method": "repaint(eta="}, ConfigError, "config.method: expected a name such as repaint"),
        ({"method": "repaint:4-2"}, ConfigError, "config.method: METHOD:T/j/r.* got 'repaint:4-2'"),
        (
            {"method": "mmps(eta=0):logsnr"},
            ConfigError,
            r"config.method: METHOD:T/j/r.* got 'mmps\(eta=0\):logsnr'",
        ),
        ({"method": "hybrid:4,2x"}, ConfigError, "config.method: METHOD:T/j/r.* got 'hybrid:4,2x'"),
        ({"method": "nowhere.py:A"}, ConfigError, "config.method: nowhere.py cannot be imported"),
        ({"num_samples": "2"}, ConfigError, "config.num_samples: expected int, not '2'"),
        (
            {"num_samples": 10**9},
            ConfigError,
            "config.num_samples: from 1 to 100000, not",
        ),
        ({"invert_mask": 1}, ConfigError, "config.invert_mask: expected bool, not 1"),
        ({"noise": 3}, ConfigError, "config.noise: expected a section of fields, not 3"),
        ({"noise__kind": 3}, ConfigError, r"config.noise.kind: expected str \| None, not 3"),
        ({"model__image_size": 10**6}, ConfigError, "image_size: at most 8192 pixels a side"),
        ({"model__path": "~no_such_user/x.pt"}, ConfigError, "there is no file ~no_such_user/x.pt"),
        ({"image": "~no_such_user/x.png"}, ImageError, "~no_such_user/x.png: expected a picture"),
        ({"image": "\0"}, FileNotFoundError, "names cannot hold a zero byte"),
    ],
)
def test_a_bad_configuration_is_refused_before_anything_is_written(
    config, tmp_path, fields, error, message
):
    out = tmp_path / "out"
    change(config, **fields)
    if error is None:  # 0 means: the model's own
        run_inpainting(change(config, num_samples=1), out)
        return
    with pytest.raises(error, match=message) as raised:
        run_inpainting(config, out)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_a_walk_after_the_method_is_that_of_the_fields_and_recorded_there(config, tmp_path):
    change(config, num_samples=1)
    run_inpainting(config, tmp_path / "fields")
    change(config, method="repaint:4/2/2", noise__num_steps="9", resampling__num_resamples=3)
    run_inpainting(config, tmp_path / "one")
    recorded, fields = (
        json.loads((tmp_path / name / "config.json").read_text()) for name in ("one", "fields")
    )
    assert recorded == fields
    assert (
        read(tmp_path / "one" / "grid.png").tolist()
        == read(tmp_path / "fields" / "grid.png").tolist()
    )
    change(config, method="ddnm:3")  # straight down
    run_inpainting(config, tmp_path / "down")
    assert json.loads((tmp_path / "down" / "metrics.json").read_text())["calls"] == 3


def test_bad_pictures_and_masks_are_refused_before_anything_is_written(config, faces, tmp_path):
    def refused(message, **fields):
        with pytest.raises((ImageError, ConfigError), match=message) as raised:
            run_inpainting(change(config.copy_and_resolve_references(), **fields), tmp_path / "out")
        assert "\n" not in str(raised.value)
        assert not (tmp_path / "out").exists()

    (tmp_path / "empty").mkdir()
    refused("none of the 0 files there is a picture", image=str(tmp_path / "empty"))
    (tmp_path / "text.png").write_text("no picture")
    refused("text.png: not a picture", image=str(tmp_path / "text.png"))
    whole = (faces / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    refused("cut.png: the picture cannot be decoded", image=str(tmp_path / "cut.png"))
    Image.new("L", (10, 40)).save(tmp_path / "tall.png")
    refused("tall.png: a mask needs the aspect ratio", mask=str(tmp_path / "tall.png"))
    Image.new("L", (30, 20), 255).save(tmp_path / "full.png")
    one = str(faces / "a.png")
    refused("full.png: the mask has no hole", image=one, mask=str(tmp_path / "full.png"))
    (tmp_path / "masks").mkdir()
    for name in ("x.png", "y.png"):
        Image.new("L", (30, 20)).save(tmp_path / "masks" / name)
    refused("a.png, b.png: no mask of that name", mask=str(tmp_path / "masks"))


def test_a_field_that_is_missing_is_named(config, tmp_path):
    with config.unlocked():
        del config.resampling["jump_length"]
    with pytest.raises(ConfigError, match=r"config.resampling.jump_length: it is missing"):
        run_inpainting(config, tmp_path / "out")


@pytest.mark.parametrize(
    ("change_", "message"),
    [
        ({"image_size": [16]}, "nothing can be made of what it says"),
        ({"noise": "linear"}, "nothing can be made of what it says"),
        ({"noise": {"kind": ["linear"]}}, "noise.kind: the model's file does not tell its noise"),
        ({"prediction": ["x0"]}, "nothing can be made of what it says"),
        (
            {"noise": {"kind": "linear", "num_train_steps": "x"}},
            "nothing can be made of what it says",
        ),
        (
            {"noise": {"kind": "linear", "num_train_steps": 9, "colour": 1}},
            "nothing can be made of",
        ),
    ],
)
def test_a_model_whose_file_says_nonsense_of_its_training_is_refused(
    config, tiny, tmp_path, change_, message
):
    about = {"image_size": 16, "noise": {"kind": "linear", "num_train_steps": 1000}}
    path = tmp_path / "odd.safetensors"
    save(path, load(tiny), **{**about, **change_})
    with pytest.raises((CheckpointError, ConfigError), match=message):
        run_inpainting(change(config, model__path=str(path)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_checkpoints_are_refused(config, tiny, tmp_path):
    whole = tiny.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match=r"cut.safetensors: damaged"):
        run_inpainting(change(config, model__path=str(tmp_path / "cut.safetensors")), tmp_path)


def test_a_checkpoint_that_tells_no_schedule_or_size_asks_for_them(config, tmp_path):
    path = checkpoint("adm_tiny")
    change(config, model__path=str(path), model__num_heads=4)
    with pytest.raises(ConfigError, match=r"config.model.image_size: .* side of its training"):
        run_inpainting(config, tmp_path / "out")
    change(config, model__image_size=18)
    with pytest.raises(ConfigError, match="multiples of 4 pixels, not 18"):
        run_inpainting(config, tmp_path / "out")
    change(config, model__image_size=16)
    with pytest.raises(ConfigError, match=r"config.noise.kind: .* linear with 1000 steps"):
        run_inpainting(config, tmp_path / "out")
    change(config, noise__kind="linear")
    with pytest.raises(ConfigError, match=r"config.noise.num_train_steps: .* does not tell"):
        run_inpainting(config, tmp_path / "out")
    change(config, noise__kind="quadratic", noise__num_train_steps=1000)
    with pytest.raises(
        ConfigError, match="one of linear, scaled_linear, sigmoid, sigmoid_cumprod, cosine"
    ):
        run_inpainting(config, tmp_path / "out")
    change(config, noise__kind="linear", num_samples=1)
    run_inpainting(config, tmp_path / "out")
    assert (tmp_path / "out" / "grid.png").is_file()


@pytest.mark.parametrize(("size", "shape"), [(32, (32, 32)), ((24, 40), (24, 40))])
def test_pictures_of_another_shape_than_the_trainings_go_all_the_way(config, tmp_path, size, shape):
    change(config, model__image_size=size, num_samples=1, mask="box")
    out = tmp_path / "out"
    asked = f"pictures of {shape[0]}x{shape[1]} .* trained on 16x16: expect"
    with pytest.warns(UserWarning, match=asked) as warned:
        run_inpainting(config, out)
    assert len(warned) == 1
    for name in "ab":
        picture, original = read(out / "inpainted" / f"{name}_0.png"), out / "original"
        known = read(out / "known_mask" / f"{name}.png") == 255
        assert known.shape == picture.shape[:2] == shape
        hole = np.argwhere(~known)
        assert (hole.max(0) - hole.min(0) + 1).tolist() == [side // 2 for side in shape]
        assert np.array_equal(picture[known], read(original / f"{name}.png")[known])
    grid = read(out / "grid.png")
    cells = 3 * shape[1] * round(160 / max(shape)), 2 * shape[0] * round(160 / max(shape))
    assert 0 < grid.shape[1] - cells[0] < 60
    assert 0 < grid.shape[0] - cells[1] < 60
    with Image.open(out / "process.gif") as film:
        width, height = film.size
        scale = round(256 / max(shape))
        assert width >= scale * shape[1]
        assert height > scale * shape[0]


def test_mask_files_fit_pictures_that_are_no_squares(config, faces, tmp_path):
    mask = np.full((20, 30), 255, np.uint8)
    mask[:, 15:] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    change(config, image=str(faces / "a.png"), mask=str(tmp_path / "mask.png"), num_samples=1)
    change(config, model__image_size=(16, 24))
    with pytest.warns(UserWarning, match="trained on 16x16"):
        run_inpainting(config, tmp_path / "out")
    known = read(tmp_path / "out" / "known_mask" / "a.png") == 255
    assert known.shape == (16, 24)
    assert known.all(0).tolist() == [True] * 12 + [False] * 12


@pytest.mark.parametrize(
    ("size", "factor", "message"),
    [
        (18, 4, "multiples of 4 pixels, not 18; near by are 16, 20"),
        ((250, 300), 32, "32 pixels, not 250 and 300; near by are 224, 256, 288, 320"),
        (10, 32, "not 10; near by are 32"),
        ((0, 64), 32, "not 0; near by are 32"),
        (None, 1, "does not tell the side .* for instance to 256"),
        ((1, 2, 3), 1, r"a side such as 256 or height,width as 256,384; not \(1, 2, 3\)"),
        ("256x256", 1, "a side such as 256 or height,width as 256,384; not '256x256'"),
        (64.0, 1, "a side such as 256 or height,width as 256,384; not 64.0"),
    ],
)
def test_sizes_that_the_network_cannot_take_are_refused_with_those_near_by(size, factor, message):
    with pytest.raises(ArgumentError, match=f"image_size: .*{message}"):
        picture_shape(size, None, factor)


def test_only_shapes_unlike_the_trainings_warn():
    assert picture_shape(None, (64, 64), 32) == (64, 64)
    assert picture_shape((64, 64), (64, 64), 32) == (64, 64)
    assert picture_shape(256, None, 32) == (256, 256)
    assert picture_shape(None, (64, 96), 32) == (64, 96)
    with pytest.warns(UserWarning, match="trained on squares, as most are"):
        picture_shape((64, 96), None, 32)
    with pytest.warns(UserWarning, match="trained on 64x96"):
        picture_shape(64, (64, 96), 32)


def test_a_folder_that_cannot_be_written_is_an_error_before_sampling(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*out \(Not a directory\).*another folder"):
        run_inpainting(config, tmp_path / "file" / "out")


def test_weights_that_blow_up_say_so(config, tiny, tmp_path):
    model = load(tiny)
    model.out_conv.bias[...] = jnp.full(6, jnp.nan)
    path = tmp_path / "nan.safetensors"
    save(path, model, image_size=SIDE, noise={"kind": "linear", "num_train_steps": 1000})
    with pytest.raises(ConfigError, match="no longer finite after 1 steps"):
        run_inpainting(change(config, model__path=str(path)), tmp_path / "out")


def test_two_pictures_of_one_name_keep_their_results_apart(config, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / "many" / folder).mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(tmp_path / "many" / folder / "face.png")
    change(config, image=str(tmp_path / "many" / "*" / "*.png"), num_samples=1)
    run_inpainting(config, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "inpainted").iterdir()) == [
        "one_face_0.png", "two_face_0.png",
    ]  # fmt: skip


def test_the_schedule_is_drawn(config, tmp_path, capsys):
    run_schedule_plot(config, tmp_path / "out")
    assert read(tmp_path / "out" / "schedule.png").shape[1] > 1000
    assert "schedule.png" in capsys.readouterr().out


# The scripts themselves, as a user starts them.


def script(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=False,
    )


def test_the_script_runs_and_names_its_folder_after_the_configuration(
    config, tiny, faces, tmp_path
):
    done = script(
        "inpaint",
        f"--config={ROOT / 'configs' / 'celeba.py'}",
        f"--config.model.path={tiny}",
        f"--config.image={faces / 'a.png'}",
        "--config.noise.num_steps=3",
        "--config.num_samples=1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "celeba" / "grid.png").is_file()
    assert done.stdout.strip().endswith(os.path.join("out", "celeba", "grid.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: which configuration?"),
        (("--config=nothing.py",), "error: --config: there is no file nothing.py"),
        (
            ("--config=CELEBA", "--config.num_sample=3"),
            "no field 'num_sample'; did you mean 'num_samples'?",
        ),
        (("--config=CELEBA", "--config.noise.num_stepz=3"), "did you mean 'num_steps'?"),
        (("--config=CELEBA", "--config.seed=abc"), "--config.seed=abc"),
        (("--config=CELEBA", "--workdri=x"), "Did you mean: workdir"),
        (("--config=CELEBA", "mask=half"), "'mask=half' is no flag"),
        (("--config=CELEBA", "--config.image=nowhere"), "error: nowhere: expected a picture"),
        (("--config=BROKEN",), "error: --config:"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(tmp_path, arguments, message):
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    files = {"CELEBA": ROOT / "configs" / "celeba.py", "BROKEN": tmp_path / "broken.py"}
    for short, file in files.items():
        arguments = [argument.replace(short, str(file)) for argument in arguments]
    done = script("inpaint", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_helps(tmp_path):
    done = script("plot_schedule", "--help", cwd=tmp_path)
    assert "--config" in done.stdout
    assert "--workdir" in done.stdout
    assert "Draws the resample schedule" in done.stdout
