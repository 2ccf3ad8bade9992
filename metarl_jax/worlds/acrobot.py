"""Two links of unknown length, mass and inertia, to be swung up."""

from metarl_jax.envs import classic_control
from metarl_jax.recipe import World

acrobot = World(
    classic_control.acrobot,
    defaults={
        "all": {"horizon": 200},
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
