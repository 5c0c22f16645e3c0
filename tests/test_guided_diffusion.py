import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from golden_networks import checkpoint
from torch_zip import write_state_dict

from repaint_jax.checkpoints import (
    CheckpointError,
    load_guided_diffusion,
    load_guided_diffusion_classifier,
)
from repaint_jax.checkpoints.guided_diffusion import (
    checkpoint_shapes,
    infer_classifier_config,
    infer_config,
)
from repaint_jax.checkpoints.parameters import abstract_model, named_parameters
from repaint_jax.checkpoints.torch_file import read_torch_file
from repaint_jax.models import EncoderUNet, UNet

HEADS = {
    "adm_tiny": {"num_heads": 4},
    "adm_plain_noshift": {"num_heads": 1},
    "adm_classcond_newattn": {"num_head_channels": 16, "use_new_attention_order": True},
}
PUBLISHED = {
    "channel_mult": [1, 1, 2, 2, 4, 4],
    "num_res_blocks": 2,
    "attention_resolutions": [8, 16, 32],
    "in_channels": 3,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
}


def relative_error(out, expected):
    return np.abs(np.asarray(out) - expected).max() / np.abs(expected).max()


def nhwc(pictures):
    return jnp.asarray(pictures.transpose(0, 2, 3, 1))


@pytest.mark.parametrize("name", HEADS)
def test_outputs_are_the_reference_implementations(golden, name):
    model = load_guided_diffusion(checkpoint(name), **HEADS[name])
    reference = np.load(golden / f"{name}.npz")
    arguments = json.loads((golden / f"{name}.json").read_text())
    inferred = set(arguments) & set(model.config) - {"image_size", "num_heads", "num_head_channels"}
    assert {key: model.config[key] for key in inferred} == {key: arguments[key] for key in inferred}
    y = jnp.asarray(reference["y"], jnp.int32) if arguments["num_classes"] else None
    out = jax.jit(lambda *inputs: model(*inputs))(nhwc(reference["x"]), reference["t"], y)
    assert relative_error(out, reference["out"].transpose(0, 2, 3, 1)) < 1e-5


def test_classifier_and_its_gradient_are_the_reference_implementations(golden):
    path = checkpoint("classifier_tiny")
    model = load_guided_diffusion_classifier(path, num_head_channels=32)
    reference = np.load(golden / "classifier_tiny.npz")
    y = jnp.asarray(reference["y"], jnp.int32)

    @jax.jit
    def log_probability(x):
        logits = model(x, reference["t"])
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return chosen.sum(), logits

    gradient, logits = jax.grad(log_probability, has_aux=True)(nhwc(reference["x"]))
    assert model.config["image_size"] == 16
    assert relative_error(logits, reference["logits"]) < 1e-5
    assert relative_error(gradient, reference["grad"].transpose(0, 2, 3, 1)) < 1e-5


def published_shapes(golden, name):
    listed = json.loads((golden / f"keys_{name}.json").read_text())
    return {key: tuple(shape) for key, shape in listed.items()}


@pytest.mark.parametrize(
    ("name", "heads", "facts"),
    [
        (
            "celeba256_places256_imagenet256uncond",
            {},
            {**PUBLISHED, "model_channels": 256, "out_channels": 6, "num_classes": None},
        ),
        (
            "imagenet256_classcond",
            {},
            {**PUBLISHED, "model_channels": 256, "out_channels": 6, "num_classes": 1000},
        ),
        (
            "imagenet64_classcond",
            {"use_new_attention_order": True},
            {
                **PUBLISHED,
                "model_channels": 192,
                "channel_mult": [1, 2, 3, 4],
                "num_res_blocks": 3,
                "attention_resolutions": [2, 4, 8],
                "num_classes": 1000,
            },
        ),
    ],
)
def test_published_networks_are_recognised_name_by_name(golden, name, heads, facts):
    shapes = published_shapes(golden, name)
    config = infer_config(shapes, **heads)
    assert config.items() >= {**facts, **heads, "num_head_channels": 64}.items()
    assert checkpoint_shapes(abstract_model(UNet, config)) == shapes


def test_the_published_classifier_is_recognised_name_by_name(golden):
    shapes = published_shapes(golden, "classifier256")
    config = infer_classifier_config(shapes)
    facts = {"model_channels": 128, "out_channels": 1000, "image_size": 256}
    assert config.items() >= {**PUBLISHED, **facts}.items()
    assert checkpoint_shapes(abstract_model(EncoderUNet, config)) == shapes


SMALL = {
    "model_channels": 64,
    "channel_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [4],
    "num_head_channels": 32,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_res_blocks": 3, "attention_resolutions": []},
        {"channel_mult": [1, 1, 1], "attention_resolutions": [1, 2, 4]},
        {"channel_mult": [0.5, 1, 1.5]},
        {"channel_mult": [2], "attention_resolutions": [], "num_res_blocks": 2},
        {"resblock_updown": False},
        {"resblock_updown": False, "conv_resample": False, "num_res_blocks": 2},
        {"use_scale_shift_norm": False, "in_channels": 1, "out_channels": 2, "num_classes": 5},
    ],
)
def test_inference_undoes_naming(changes):
    model = abstract_model(UNet, {**SMALL, **changes})
    config = infer_config(checkpoint_shapes(model), num_head_channels=32)
    assert config == {k: model.config[k] for k in config}
    assert set(model.config) - set(config) == {"image_size", "dropout"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_res_blocks": 4, "attention_resolutions": [2, 4]},
        {"resblock_updown": False},
        {"resblock_updown": False, "conv_resample": False},
    ],
)
def test_inference_undoes_naming_of_classifiers(changes):
    given = {**SMALL, **changes, "image_size": 16, "out_channels": 7}
    model = abstract_model(EncoderUNet, given)
    config = infer_classifier_config(checkpoint_shapes(model), num_head_channels=32)
    assert config == {k: model.config[k] for k in config}


def test_a_classifier_that_does_not_tell_its_depth_asks_for_it():
    alike = {"channel_mult": [1, 1], "attention_resolutions": []}
    given = {**SMALL, **alike, "image_size": 16, "out_channels": 7}
    shapes = checkpoint_shapes(abstract_model(EncoderUNet, given))
    with pytest.raises(CheckpointError, match=r"of 1 to 3, \[1, 3\] fit.: give num_res_blocks"):
        infer_classifier_config(shapes)
    assert infer_classifier_config(shapes, num_res_blocks=1)["channel_mult"] == [1, 1]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_files_load_as_float32(tmp_path, dtype):
    tensors = read_torch_file(checkpoint("classifier_tiny"))
    path = tmp_path / "half.pt"
    write_state_dict(path, {name: array.astype(dtype) for name, array in tensors.items()})
    model = load_guided_diffusion_classifier(path, num_head_channels=32, dtype=jnp.bfloat16)
    bias = named_parameters(model)["down.1.0.conv_in.bias"]
    expected = tensors["input_blocks.1.0.in_layers.2.bias"].astype(dtype).astype(np.float32)
    assert bias.dtype == jnp.float32
    assert model.dtype == jnp.bfloat16
    np.testing.assert_array_equal(bias[...], expected)


def test_all_that_does_not_fit_is_listed_at_once(tmp_path):
    tensors = read_torch_file(checkpoint("adm_tiny"))
    del tensors["out.0.bias"]
    tensors["time_embed.2.bias"] = np.zeros(5, np.float32)
    tensors |= {f"ema.{i}": np.zeros(1, np.float32) for i in range(10)}
    path = write_state_dict(tmp_path / "bad.pt", tensors)
    with pytest.raises(CheckpointError) as caught:
        load_guided_diffusion(path, num_heads=4)
    message = str(caught.value)
    assert message.startswith(f"{path}: the tensors do not fit the architecture")
    assert "missing: out.0.bias (32,);" in message
    assert "ema.7 (1,) and 2 more;" in message
    assert "of another shape: time_embed.2.bias is (5,), not (128,)" in message


def test_heads_that_do_not_divide_are_asked_for():
    path = checkpoint("adm_plain_noshift")
    with pytest.raises(CheckpointError, match="48 channels a head; set num_heads or num_head_ch"):
        load_guided_diffusion(path, num_head_channels=48)


def test_network_and_classifier_are_not_confused():
    with pytest.raises(CheckpointError, match="with load_guided_diffusion_classifier"):
        load_guided_diffusion(checkpoint("classifier_tiny"))
    with pytest.raises(CheckpointError, match=r"expected a tensor out\.2\.c_proj\.weight"):
        load_guided_diffusion_classifier(checkpoint("adm_tiny"))


def test_another_programs_state_dict_is_refused(tmp_path):
    path = write_state_dict(tmp_path / "other.pt", {"conv_in.weight": np.zeros(3, np.float32)})
    with pytest.raises(CheckpointError, match=r"not a checkpoint of guided.* conv_in\.weight"):
        load_guided_diffusion(path)


def test_a_damaged_name_or_an_empty_tensor_is_refused_at_once(tmp_path):
    tensors = dict(read_torch_file(checkpoint("adm_tiny")))
    bias = tensors.pop("input_blocks.1.0.in_layers.2.bias")
    far = {**tensors, "input_blocks.1000000000.0.in_layers.2.bias": bias}
    path = write_state_dict(tmp_path / "far.pt", far)
    with pytest.raises(CheckpointError, match="not a checkpoint of guided-diffusion"):
        load_guided_diffusion(path, num_heads=4)
    empty = {**tensors, "time_embed.0.weight": np.zeros((128, 0), np.float32)}
    path = write_state_dict(tmp_path / "empty.pt", empty)
    with pytest.raises(CheckpointError, match=r"expected a tensor time_embed\.0\.weight"):
        load_guided_diffusion(path)


def test_a_network_of_patches_is_read_when_told_so(tmp_path):
    model = abstract_model(UNet, {**SMALL, "patch_size": 2})
    shapes = checkpoint_shapes(model)
    config = infer_config(shapes, num_head_channels=32, patch_size=2)
    assert config == {k: model.config[k] for k in config}
    assert infer_config(shapes, num_head_channels=32)["in_channels"] == 12
    with pytest.raises(CheckpointError, match="12 channels are no patches of 3 x 3 pixels"):
        infer_config(shapes, patch_size=3)
