"""highway-env's road, its traffic and rewards to be found out (extra `[driving]`)."""

from metarl_jax.envs.highway import highway as family
from metarl_jax.recipe import World

highway = World(
    family,
    defaults={
        "gradient": {"num_tasks": 4, "num_episodes": 2},
        "memory": {
            "num_tasks": 4,
            "num_episodes": 2,
            "num_minibatches": 2,
            "num_eval_tasks": 20,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 1,
        },
        "inference": {"num_eval_episodes": 1, "num_adaptation_steps": 2},
    },
)
