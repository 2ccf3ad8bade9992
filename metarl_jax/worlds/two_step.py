"""Two stages, of which the second is hidden (Wang et al. 2016, arXiv 1611.05763)."""

from metarl_jax.envs import two_step as family
from metarl_jax.recipe import World
from metarl_jax.worlds.correlated_bandit import WANG

two_step = World(
    family.two_step,
    defaults={
        "gradient": {
            "num_tasks": 40,
            "num_episodes": 40,
            "inner_lr": 1.0,
            "hidden_sizes": (32,),
            "num_eval_tasks": 200,
        },
        "memory": {**WANG, "num_episodes": 100},
    },
)
