"""A pole of unknown force, length, mass and weight, its wires maybe crossed."""

from metarl_jax.envs import classic_control
from metarl_jax.recipe import World

cartpole = World(
    classic_control.cartpole,
    defaults={
        # One policy balances the usual poles without adapting.
        "all": {
            "force_mag": (1.0, 20.0),
            "length": (0.1, 2.0),
            "masspole": (0.05, 2.0),
            "gravity": (5.0, 20.0),
            "crossed_wires": 0.5,
        },
        "gradient": {
            "num_episodes": 10,
            "inner_lr": 0.5,
            "num_eval_episodes": 10,
            "num_steps": 60,
        },
        "memory": {
            "num_tasks": 32,
            "num_episodes": 3,
            "num_steps": 100,
            "decay_steps": 100,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
)
