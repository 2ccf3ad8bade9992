"""An arm of two links, its tip to reach a place that it is not told."""

from metarl_jax.envs.reacher import reacher as family
from metarl_jax.recipe import World

reacher = World(
    family,
    defaults={
        "gradient": {"num_tasks": 40, "num_episodes": 20, "discount": 0.95},
        "memory": {
            "num_tasks": 256,
            "num_episodes": 2,
            "num_minibatches": 8,
            "lr": 1e-3,
            "value_scale": 10.0,
            "entropy_coeff": 0.0,
            "num_steps": 250,
            "decay_steps": 250,
            "num_eval_tasks": 400,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 1,
        },
        "inference": {
            "num_steps": 60,
            "num_eval_tasks": 100,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
