"""MAML on 2-D navigation in under a minute: a narrower network and fewer steps."""

from metarl_jax.experiments.point_nav_maml import point_nav_maml

point_nav_maml_quick = point_nav_maml.but(
    hidden_sizes=(64, 64), num_steps=40, num_eval_tasks=20, num_eval_episodes=20
)
