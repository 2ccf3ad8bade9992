"""A pendulum of unknown length and mass, to be swung up."""

from metarl_jax.envs import classic_control
from metarl_jax.recipe import World

pendulum = World(
    classic_control.pendulum,
    defaults={
        "gradient": {"num_episodes": 10, "num_eval_episodes": 10},
        "memory": {
            "num_tasks": 32,
            "num_episodes": 2,
            "num_steps": 100,
            "decay_steps": 100,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 1,
        },
        "inference": {
            "num_steps": 40,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
