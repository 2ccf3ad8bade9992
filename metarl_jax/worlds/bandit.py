"""Arms that pay 1 or nothing (Duan et al. 2016, arXiv 1611.02779)."""

from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.recipe import World

bandit = World(
    bernoulli_bandit,
    defaults={
        "gradient": {
            "num_tasks": 40,
            "inner_lr": 1.0,
            "hidden_sizes": (32,),
            "num_eval_tasks": 200,
        },
        "memory": {
            "num_tasks": 512,
            "num_episodes": 1,
            "gae_lambda": 0.3,
            "entropy_coeff": 0.02,
            "num_steps": 600,
            "decay_steps": 600,
            "num_eval_tasks": 20_000,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 0,
        },
    },
)
