"""Eleven arms, of which one tells where the best is (Wang et al. 2016, 1611.05763)."""

from metarl_jax.envs import bandit
from metarl_jax.recipe import World
from metarl_jax.worlds.correlated_bandit import WANG

informative_bandit = World(
    bandit.informative_bandit,
    defaults={
        "gradient": {
            "num_tasks": 40,
            "inner_lr": 1.0,
            "hidden_sizes": (32,),
            "num_eval_tasks": 200,
        },
        "memory": WANG,
    },
)
