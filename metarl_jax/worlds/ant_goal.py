"""An ant that has to find a place, moved by MuJoCo on the host (extra `[mujoco]`)."""

from metarl_jax.envs.mujoco import ant_to_a_goal
from metarl_jax.recipe import World

WALKING = {
    "gradient": {"num_episodes": 10, "num_eval_episodes": 5},
    "memory": {
        "num_tasks": 32,
        "num_episodes": 2,
        "entropy_coeff": 0.0,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 1,
    },
    "inference": {
        "recent_capacity": 4000,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 2,
    },
}

ant_goal = World(ant_to_a_goal, defaults=WALKING)
