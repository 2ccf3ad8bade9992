"""Arms whose pay is Gaussian around a mean of their own (Lee et al. 2023)."""

from metarl_jax.envs import bandit
from metarl_jax.recipe import World

gaussian_bandit = World(
    bandit.gaussian_bandit,
    defaults={
        "all": {"horizon": 100},
        "gradient": {
            "num_tasks": 40,
            "num_episodes": 2,
            "inner_lr": 1.0,
            "hidden_sizes": (32,),
            "num_eval_tasks": 200,
            "num_eval_episodes": 2,
        },
        "memory": {
            "num_tasks": 64,
            "num_episodes": 1,
            "num_steps": 1000,
            "decay_steps": 1000,
            "num_eval_tasks": 2000,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 0,
        },
    },
)
