"""An arm at one of Meta-World's tasks, its goal hidden (extra `[metaworld]`)."""

from metarl_jax.envs.metaworld import ml1
from metarl_jax.recipe import World

MANIPULATION = {
    "gradient": {"num_episodes": 10, "num_eval_episodes": 3},
    "memory": {
        "num_tasks": 20,
        "num_episodes": 2,
        "num_minibatches": 4,
        "num_epochs": 10,
        "lr": 5e-4,
        "discount": 0.99,
        "gae_lambda": 0.95,
        "entropy_coeff": 0.0,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 2,
    },
    "inference": {
        "recent_capacity": 5000,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 2,
    },
}

metaworld_ml1 = World(ml1, defaults=MANIPULATION)
