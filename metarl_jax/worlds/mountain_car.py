"""A car of unknown engine and slope, to be brought to the top."""

from metarl_jax.envs import classic_control
from metarl_jax.recipe import World

mountain_car = World(
    classic_control.mountain_car,
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
    },
)
