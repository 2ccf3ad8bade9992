"""Random MDPs of ten states and five actions (Duan et al. 2016, arXiv 1611.02779)."""

from metarl_jax.envs import tabular_mdp as family
from metarl_jax.recipe import World

tabular_mdp = World(
    family.tabular_mdp,
    defaults={
        "gradient": {
            "inner_lr": 10.0,
            "hidden_sizes": (64,),
            "num_steps": 150,
            "num_eval_tasks": 200,
        },
        "memory": {
            "num_tasks": 1024,
            "num_episodes": 10,
            "num_minibatches": 16,
            "lr": 3e-3,
            "gae_lambda": 0.3,
            "num_steps": 500,
            "decay_steps": 500,
            "num_eval_tasks": 4000,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 9,
        },
    },
)
