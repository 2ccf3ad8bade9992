"""A treasure somewhere on a circle, seen from a mountain (Zintgraf et al. 2021)."""

from metarl_jax.envs.treasure_hunt import treasure_hunt as family
from metarl_jax.recipe import World

treasure_hunt = World(
    family,
    defaults={
        "gradient": {"num_episodes": 40},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 1,
            "discount": 0.97,
            "entropy_coeff": 0.001,
            "value_scale": 100.0,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 480,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 0,
        },
        "hyperx": {"novelty_coeff": 1.0},
    },
    shown=lambda task: task.goal,
)
