"""Three rooms whose rewards, each ten times the last, are found one by the other."""

from metarl_jax.envs.rooms import rooms as family
from metarl_jax.recipe import World

rooms = World(
    family,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 1,
            "discount": 0.98,
            "entropy_coeff": 0.03,
            "value_scale": 10.0,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 480,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 0,
        },
    },
)
