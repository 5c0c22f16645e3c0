"""Networks with random weights, drawn by NumPy: JAX would compile for seconds to draw them."""

import numpy as np

from repaint_jax.checkpoints.parameters import abstract_model, fill, parameter_shapes

# A guided-diffusion network, as JSON has its arguments.
SMALL = {
    "model_channels": 32,
    "channel_mult": [1],
    "num_res_blocks": 1,
    "attention_resolutions": [],
}


def random_network(construct, config, seed=0, **more):
    """No weight is zero, unlike in a fresh network, and norms scale by about one."""
    rng = np.random.default_rng(seed)
    model = abstract_model(construct, config, **more)
    shapes = parameter_shapes(model)
    return fill(model, lambda name: rng.normal(name.endswith("scale"), 0.08, shapes[name]))
