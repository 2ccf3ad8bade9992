"""A ball to be caught, with buttons in an order that is to be found out."""

from metarl_jax.envs.catch import catch as family
from metarl_jax.recipe import World

catch = World(
    family,
    defaults={
        "gradient": {"num_episodes": 40, "num_eval_episodes": 20},
        "memory": {
            "num_tasks": 64,
            "num_episodes": 4,
            "entropy_coeff": 0.01,
            "num_steps": 300,
            "decay_steps": 300,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 3,
        },
    },
)
