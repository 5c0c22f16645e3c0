"""Makes golden/adm_*.npz, classifier_tiny.npz, the lists of keys, and torch_saved.pt.

pip install torch guided-diffusion-sdk==1.0.0 && python tests/golden/make_networks.py

guided-diffusion-sdk is OpenAI's guided-diffusion (MIT). Its networks get the weights that
tests/golden_networks.py draws, and the inputs that the .npz files have already.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from guided_diffusion.unet import EncoderUNetModel, UNetModel

GOLDEN = Path(__file__).parent
sys.path.insert(0, str(GOLDEN.parent))
from golden_networks import weights  # noqa: E402


def filled(kind: type[torch.nn.Module], name: str) -> torch.nn.Module:
    """The reference's network of NAME.json, and its keys in NAME_keys.json."""
    network = kind(**json.loads((GOLDEN / f"{name}.json").read_text()))
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    lines = ",\n".join(f" {json.dumps(key)}: {shape}" for key, shape in shapes.items())
    (GOLDEN / f"{name}_keys.json").write_text(f"{{\n{lines}\n}}\n")
    arrays = {key: torch.from_numpy(array) for key, array in weights(name).items()}
    network.load_state_dict(arrays)
    return network.eval()


def main() -> None:
    """Writes the files."""
    for name in ("adm_tiny", "adm_plain_noshift", "adm_classcond_newattn"):
        given = dict(np.load(GOLDEN / f"{name}.npz"))
        x, t, y = (torch.from_numpy(given[key]) for key in "xty")
        with torch.no_grad():
            given["out"] = filled(UNetModel, name)(x, t, y if len(y) else None).numpy()
        np.savez(GOLDEN / f"{name}.npz", **given)

    given = dict(np.load(GOLDEN / "classifier_tiny.npz"))
    x, t, y = (torch.from_numpy(given[key]) for key in "xty")
    logits = filled(EncoderUNetModel, "classifier_tiny")(x.requires_grad_(), t)
    chosen = torch.log_softmax(logits, 1).gather(1, y[:, None]).sum()
    given["grad"] = torch.autograd.grad(chosen, x)[0].numpy()
    given["logits"] = logits.detach().numpy()
    np.savez(GOLDEN / "classifier_tiny.npz", **given)

    some = {key: array for key, array in weights("adm_tiny").items() if key.startswith("input_")}
    small = {key: torch.from_numpy(some[key]) for key in list(some)[:8]}
    torch.save(small, GOLDEN / "torch_saved.pt")


if __name__ == "__main__":
    main()
