"""Jump length j against the number of resamplings r (paper, Sec. 5.5 and its ablation).

    python scripts/evaluate.py --config=configs/experiments/jump_length.py --data=faces \
        --num_pictures=50

The paper has T = 250 with j = 1, 5, 10 and r = 5, 10, 15; this is T = 50 with r = 2, 5, 10, for the
model in the box. Another model: --config.model.path, --config.noise.kind.
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
    config.evaluation.methods = tuple(f"repaint:50/{j}/{r}" for r in (2, 5, 10) for j in (1, 5, 10))
    return config
