"""A game of MinAtar with buttons, colours, sides and speed that are to be found out."""

from metarl_jax.envs.minatar import minatar as family
from metarl_jax.recipe import World

minatar = World(
    family,
    defaults={
        "gradient": {"num_episodes": 10, "num_eval_episodes": 10},
        "memory": {
            "num_tasks": 64,
            "num_episodes": 3,
            "num_minibatches": 8,
            "lr": 1e-3,
            "entropy_coeff": 0.01,
            "num_steps": 150,
            "decay_steps": 150,
            "num_eval_tasks": 200,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
