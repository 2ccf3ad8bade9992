"""2-D navigation to a hidden goal (Finn et al. 2017, arXiv 1703.03400)."""

from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.recipe import World

point_nav = World(
    point_navigation,
    defaults={
        "all": {"activation": "relu"},
        # With 0.5 a seed in five soon adapts so far that the trust region, which bounds
        # policies after adaptation, shrinks, and the policy before it drifts away.
        "cavia": {"inner_lr": 0.25},
        # Methods act as often in each task as two rounds of 100 steps do.
        "reptile": {"num_steps": 33},
        "es-maml": {"num_steps": 50},
        "pretraining": {"num_steps": 200},
        "task-shown": {"num_steps": 200},
        "memory": {
            "num_tasks": 128,
            "num_episodes": 2,
            "num_minibatches": 8,
            "lr": 1e-3,
            "num_steps": 150,
            "decay_steps": 150,
            "entropy_coeff": 0.0,
            "num_eval_tasks": 400,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 1,
        },
        "inference": {
            "num_steps": 40,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 2,
        },
    },
    goal=lambda task: task.goal,
)
