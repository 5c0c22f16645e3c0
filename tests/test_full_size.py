"""Photographs of a run come back at their own size, filled only where their masks say."""

import json

import numpy as np
import pytest
from config_files import load_config
from PIL import Image

from repaint_jax.errors import ConfigError, ImageError
from repaint_jax.inpainting import results
from repaint_jax.inpainting.run import run_inpainting
from repaint_jax.pictures.patches import patches_of_holes
from repaint_jax.pictures.windows import cut_out, put_back
from repaint_jax.runtime.processes import Processes

SIDE = 16  # of the tiny model's pictures
COLOURS = np.random.default_rng(0).integers(60, 190, (70, 110, 3), np.uint8)


@pytest.fixture
def config(tiny, tmp_path):
    """A photograph with two scratches at opposite corners, one across the border."""
    known = np.ones((70, 110), bool)
    known[:9, :12] = known[60:63, 100:108] = False
    Image.fromarray(COLOURS).save(tmp_path / "me.png")
    Image.fromarray(known).save(tmp_path / "mask.png")
    config = load_config()
    config.update(
        {
            "image": str(tmp_path / "me.png"),
            "mask": str(tmp_path / "mask.png"),
            "num_samples": 2,
            "batch_size": 3,
            "model": {"path": str(tiny)},
            "noise": {"num_steps": "3"},  # a compilation of its own
            "resampling": {"jump_length": 2, "num_resamples": 1},
        }
    )
    return config


def read(path):
    with Image.open(path) as picture:
        return np.array(picture)


def outputs(folder):
    there = [*folder.glob("inpainted/*"), *folder.glob("windows/*")]
    return sorted(path.relative_to(folder).as_posix() for path in there)


def test_a_window_round_each_hole_is_filled_and_nothing_else(config, tmp_path, capsys):
    out = tmp_path / "out"
    run_inpainting(config, out)
    assert outputs(out) == [
        "inpainted/me_0.png", "inpainted/me_1.png",
        "windows/me-1_0.png", "windows/me-1_1.png", "windows/me-2_0.png", "windows/me-2_1.png",
    ]  # fmt: skip
    known = read(tmp_path / "mask.png")
    pictures = [read(out / f"inpainted/me_{j}.png") for j in range(2)]
    for picture in pictures:
        assert picture.shape == COLOURS.shape
        np.testing.assert_array_equal(picture[known], COLOURS[known])
        for hole in ((slice(0, 9), slice(0, 12)), (slice(60, 63), slice(100, 108))):
            assert (picture[hole] != COLOURS[hole]).any()
    assert not np.array_equal(*pictures)
    window = read(out / "windows/me-2_0.png")  # of the model's size, as the hole is small
    np.testing.assert_array_equal(pictures[0][60:63, 100:108], window[6:9, 6:14])
    metrics = json.loads((out / "metrics.json").read_text())
    assert [row["file"] for row in metrics["photographs"]] == [
        f"inpainted/me_{j}.png" for j in (0, 1)
    ]
    assert "photographs at their own size" in capsys.readouterr().out


def test_files_of_every_orientation_and_mode_go_through(config, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # held upright: shown turned to the right
    Image.fromarray(COLOURS).save(tmp_path / "me.jpg", exif=exif, quality=90)
    mask = np.full((110, 70), 255, np.uint8)
    mask[50, 10:30] = 0  # a scratch of one pixel
    Image.fromarray(mask).save(tmp_path / "upright.png")
    config.update({"image": str(tmp_path / "me.jpg"), "mask": str(tmp_path / "upright.png")})
    config.margin = 0.25
    run_inpainting(config, tmp_path / "out")
    with Image.open(tmp_path / "me.jpg") as file:
        upright = np.array(file.transpose(Image.Transpose.ROTATE_270))
    picture = read(tmp_path / "out/inpainted/me_0.png")
    np.testing.assert_array_equal(picture[mask > 0], upright[mask > 0])
    assert (picture[50, 10:30] != upright[50, 10:30]).mean() > 0.5


def test_the_whole_is_seen_at_once_and_mirrored_where_it_does_not_fit(config, tmp_path, capsys):
    config.window = "whole"
    with pytest.warns(UserWarning, match=r"me: the model's 16x16 pixels are enlarged 6.9 times"):
        run_inpainting(config, tmp_path / "out")
    assert "me: 70x110 pixels are not of the model's aspect ratio" in capsys.readouterr().out
    assert read(tmp_path / "out/original/me.png").shape == (SIDE, SIDE, 3)
    known = read(tmp_path / "mask.png")
    picture = read(tmp_path / "out/inpainted/me_1.png")
    np.testing.assert_array_equal(picture[known], COLOURS[known])


@pytest.mark.parametrize("mask", ["half", "alternating_lines", "super_resolution", "expand"])
def test_generated_masks_cover_the_whole_at_the_models_size(config, tmp_path, mask):
    Image.fromarray(COLOURS[:64, :64]).save(tmp_path / "me.png")
    config.update({"mask": mask, "window": "whole", "num_samples": 1})
    with pytest.warns(UserWarning, match="4.0 times"):
        run_inpainting(config, tmp_path / "out")
    kept = read(tmp_path / "out/known_mask/me.png") == 255
    assert 0 < kept.mean() <= 0.5
    known = np.kron(kept, np.ones((4, 4), bool))
    changed = (read(tmp_path / "out/inpainted/me_0.png") != COLOURS[:64, :64]).any(-1)
    assert not changed[known].any()
    assert changed[~known].mean() > 0.9


def test_a_long_scratch_is_filled_turn_by_turn_each_seeing_the_earlier_ones(config, tmp_path):
    known = np.ones((70, 110), bool)
    known[33:35, 5:105] = False
    Image.fromarray(known).save(tmp_path / "mask.png")
    run_inpainting(config, tmp_path / "out")
    windows = sorted((tmp_path / "out/windows").iterdir())
    assert len(windows) == 2 * 7  # of 32 pixels at the most, each round 16 of the scratch
    assert read(tmp_path / "out/inpainted/me_0.png").shape == (70, 110, 3)
    (turn, later), known = patches_of_holes(known, (SIDE, SIDE)), np.where(known, 255, 0)
    assert len(turn) == 4
    photo, mask = COLOURS.copy(), known == 255
    for k, patch in enumerate(turn):
        put_back(photo, mask, patch, read(tmp_path / f"out/windows/me-{k + 1}_1.png"))
        mask[patch.box.inside] = True
    image, seen = cut_out(photo, mask, later[0].window, (SIDE, SIDE))
    filled = read(tmp_path / "out/windows/me-5_1.png")
    np.testing.assert_array_equal(filled[seen], image[seen])  # what was filled counts as known
    unseen, _ = cut_out(COLOURS, known == 255, later[0].window, (SIDE, SIDE))
    assert (unseen != image)[seen].any()


def test_processes_share_photographs_and_not_their_windows(config, tmp_path):
    known = np.ones((70, 110), bool)
    known[33:35, 5:105] = False
    Image.fromarray(known).save(tmp_path / "mask.png")
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in "ab":
        Image.fromarray(COLOURS[:, ::-1] if name == "b" else COLOURS).save(folder / f"{name}.png")
    config.update({"image": str(folder), "batch_size": 4})
    run_inpainting(config, tmp_path / "one")
    for index in range(2):
        assert not (tmp_path / "two/grid.png").exists()
        run_inpainting(config, tmp_path / "two", processes=Processes(index, 2))
    assert (tmp_path / "two/grid.png").exists()
    for file in outputs(tmp_path / "one"):
        one, two = read(tmp_path / "one" / file), read(tmp_path / "two" / file)
        assert np.abs(one.astype(int) - two).max() <= 1


def test_the_centre_is_what_it_was(config, tmp_path):
    config.window = "centre"
    config.mask = "box"
    run_inpainting(config, tmp_path / "out")
    assert outputs(tmp_path / "out") == ["inpainted/me_0.png", "inpainted/me_1.png"]
    assert read(tmp_path / "out/inpainted/me_0.png").shape == (SIDE, SIDE, 3)


def test_a_killed_run_goes_on_and_puts_every_photograph_together(config, tmp_path, monkeypatch):
    run_inpainting(config, tmp_path / "undisturbed")
    config.batch_size = 2
    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(
            results.Results, "save_photographs", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):  # after the windows of me_0 and of half of me_1
            run_inpainting(config, out)
    assert not list(out.glob("inpainted/*"))
    run_inpainting(config, out)
    for j in range(2):
        np.testing.assert_array_equal(
            read(out / f"inpainted/me_{j}.png"),
            read(tmp_path / f"undisturbed/inpainted/me_{j}.png"),
        )


def test_a_photograph_that_changed_outside_of_its_windows_is_another(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(results.Results, "finish", lambda *_: None)
        run_inpainting(config, tmp_path / "out")
    changed = COLOURS.copy()
    changed[35, 55] = 0  # the middle
    Image.fromarray(changed).save(tmp_path / "me.png")
    with pytest.raises(ConfigError, match="other pictures, masks or weights"):
        run_inpainting(config, tmp_path / "out")


def test_what_another_run_left_is_swept(config, tmp_path):
    out = tmp_path / "out"
    run_inpainting(config, out)
    (out / "inpainted/mine.png").write_bytes(b"")
    config.num_samples = 1
    config.margin = 1.0
    run_inpainting(config, out)
    assert outputs(out) == [
        "inpainted/me_0.png", "inpainted/mine.png", "windows/me-1_0.png", "windows/me-2_0.png",
    ]  # fmt: skip
    config.update({"mask": "box", "window": "centre"})
    run_inpainting(config, out)
    assert outputs(out) == ["inpainted/me_0.png", "inpainted/mine.png"]


def test_a_partly_known_pixel_of_the_model_can_be_kept(config, tmp_path):
    mask = np.full((64, 64), 255, np.uint8)
    mask[31] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(COLOURS[:64, :64]).save(tmp_path / "me.png")
    config.update({"window": "whole", "num_samples": 1})
    with pytest.warns(UserWarning, match="4.0 times"):
        run_inpainting(config, tmp_path / "out")
    assert (read(tmp_path / "out/known_mask/me.png")[7] == 0).all()
    config.keep_partial = True
    with pytest.raises(ConfigError, match=r"config\.keep_partial: of me a hole is lost"):
        run_inpainting(config, tmp_path / "kept")


def test_what_cannot_be_is_said(config, tmp_path):
    config.window = "all"
    with pytest.raises(ConfigError, match=r"config\.window: one of hole, whole, centre, not 'all'"):
        run_inpainting(config, tmp_path / "out")
    config.update({"window": "hole", "margin": -1.0})
    with pytest.raises(ConfigError, match=r"config\.margin: at least 0, not -1\.0"):
        run_inpainting(config, tmp_path / "out")
    hole = np.full((70, 110), 255, np.uint8)
    hole[20:50, 20:50] = 0
    Image.fromarray(hole).save(tmp_path / "mask.png")
    config.margin = 0.0
    with pytest.raises(ConfigError, match=r"margin: of me nothing is known .* above 0.0"):
        run_inpainting(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pictures_name_that_is_anothers_windows_is_refused(config, tmp_path):
    folder = tmp_path / "faces"
    folder.mkdir()
    for name in ("me", "me-1"):
        Image.fromarray(COLOURS).save(folder / f"{name}.png")
    one = np.full((70, 110), 255, np.uint8)
    one[30:40, 30:40] = 0
    masks = tmp_path / "masks"
    masks.mkdir()
    (tmp_path / "mask.png").rename(masks / "me.png")
    Image.fromarray(one).save(masks / "me-1.png")
    config.update({"image": str(folder), "mask": str(masks)})
    with pytest.raises(ImageError, match="me-1: the name of a picture and of another's window"):
        run_inpainting(config, tmp_path / "out")
