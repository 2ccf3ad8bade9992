"""A half-cheetah that is to run at a speed it has to find out (1703.03400)."""

from metarl_jax.envs import locomotion, robots
from metarl_jax.recipe import World
from metarl_jax.types import TaskDistribution


def tasks(
    *,
    variant: locomotion.Paper = "promp",
    horizon: int | None = None,
    engine: robots.Engine = "planar",
) -> TaskDistribution:
    """Builds half-cheetahs that are to run at a speed.

    Args:
      variant: the paper whose speeds, observation and horizon it has.
      horizon: control steps of an episode; None for the variant's.
      engine: what moves the robot: in the compiled step, MuJoCo on the host, or MJX.
    """
    return robots.robot_family(
        locomotion.half_cheetah_velocity(variant), engine=engine, horizon=horizon
    )


RUNNING = {
    "task-shown": {"num_tasks": 20, "num_steps": 300},
    "gradient": {
        "num_tasks": 10,
        "num_episodes": 10,
        "num_steps": 150,
        "num_eval_episodes": 10,
        "discount": 0.99,
    },
    "maml": {"num_steps": 500, "inner_lr": 0.3, "max_kl": 0.03},
    "promp": {"num_steps": 500, "inner_lr": 0.3, "outer_lr": 3e-3},
    "memory": {
        "num_tasks": 64,
        "num_episodes": 2,
        "num_minibatches": 8,
        "num_epochs": 4,
        "lr": 1e-3,
        "value_scale": 50.0,
        "discount": 0.99,
        "gae_lambda": 0.95,
        "entropy_coeff": 0.0,
        "num_steps": 200,
        "decay_steps": 900,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 1,
    },
    "varibad": {"num_steps": 200},
    "inference": {
        "num_steps": 60,
        "num_eval_episodes": 1,
        "num_adaptation_steps": 2,
    },
}

# A speed takes longer to be found than a direction.
half_cheetah_velocity = World(
    tasks,
    defaults={
        **RUNNING,
        "memory": {**RUNNING["memory"], "num_steps": 600},
        "varibad": {"num_steps": 600},
        "pearl": {"num_steps": 250},
    },
    shown=lambda task: task.goal[None],
)
