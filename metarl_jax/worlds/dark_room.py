"""A room with a cell that pays, and nothing shows which (Laskin et al. 2022)."""

from metarl_jax.envs.dark_room import dark_room as family
from metarl_jax.recipe import World

dark_room = World(
    family,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 4,
            "entropy_coeff": 0.01,
            "discount": 0.99,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 500,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 7,
        },
    },
)
