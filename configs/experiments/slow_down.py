"""Slowing down against resampling, at equal numbers of network calls (paper, Sec. 5.5).

    python scripts/evaluate.py --config=configs/experiments/slow_down.py --data=faces \
        --num_pictures=100

More network calls can be spent on more timesteps (T = 90, 130, 170, r = 1) or on resampling
(T = 50, r = 2, 3, 4). The paper has T = 250 to 1000 against r = 1 to 4; this is that at a fifth of
the steps, for the model in the box. Another model: --config.model.path, --config.noise.kind.
"""

from repaint_jax.config import ConfigDict, base


def get_config() -> ConfigDict:
    config = base()
    config.mask = "wide"
    config.batch_size = 20
    config.model.path = "celeba64"
    config.model.dtype = "auto"
    config.noise.num_steps = "50"
    config.resampling.num_resamples = 3
    config.evaluation.masks = ("wide",)
    config.evaluation.methods = (
        "repaint:50/10/1",
        *("repaint:90/10/1", "repaint:50/10/2"),  # 90 network calls
        *("repaint:130/10/1", "repaint:50/10/3"),  # 130
        *("repaint:170/10/1", "repaint:50/10/4"),  # 170
    )
    return config
