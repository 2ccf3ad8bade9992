"""A sparse reward somewhere on a half-circle (Rakelly et al. 2019, 1903.08254)."""

from metarl_jax.envs.point_navigation import sparse_point_navigation
from metarl_jax.recipe import World

half_circle = World(
    sparse_point_navigation,
    defaults={
        "all": {"train_reward": "shaped"},
        "gradient": {"num_episodes": 40, "max_kl": 0.02},
        "memory": {
            "train_reward": "mixed",
            "num_tasks": 128,
            "num_episodes": 6,
            "num_steps": 250,
            "decay_steps": 250,
            "entropy_coeff": 0.0,
            "discount": 0.97,
            "num_eval_tasks": 200,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 5,
        },
        "amago": {
            "num_tasks": 16,
            "num_steps": 300,
            "decay_steps": 300,
            "num_updates": 48,
            "relabel_fraction": 0.8,
            "hindsight_fraction": 0.5,
            "roam_fraction": 0.1,
        },
        "inference": {
            "num_episodes": 6,
            "num_train_tasks": 160,
            "num_initial_episodes": 30,
            "recent_capacity": 600,
            "latent_size": 8,
            "temperature": 0.02,
            "kl_coeff": 3e-4,
            "discount": 0.9,
            "activation": "relu",
            "num_steps": 360,
            "num_eval_tasks": 200,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 5,
        },
    },
    goal=lambda task: task.goal,
)
