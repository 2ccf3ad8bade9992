"""Puts what was learned on planar half-cheetahs into MuJoCo, unchanged.

    metarl-jax train half-cheetah-direction --method rl2 --output-dir runs/direction
    python benchmarks/robot_transfer.py runs/direction

The same held-out tasks on both engines; prints mean returns after 0 and 1 rounds.
"""

import sys
from functools import partial

import jax
import numpy as np

from metarl_jax import evaluation, learned
from metarl_jax.envs import locomotion, robots


def main(run_dir: str) -> None:
    """Evaluates a run of `half-cheetah-direction` on both engines."""
    run = learned.load_run(run_dir)
    algorithm = run.experiment.algorithm
    if run.state is None:
        raise SystemExit(f"{run_dir} has no checkpoint")
    for engine in ("planar", "mujoco"):
        tasks = robots.robot_family(locomotion.half_cheetah_direction(), engine=engine)
        measure = partial(
            evaluation.evaluate,
            tasks=tasks,
            policy=algorithm.policy,
            adapt=algorithm.adapt,
            agent=run.state.agent,
            num_tasks=40,
            num_episodes=1,
            num_adaptation_steps=1,
        )
        returns = np.asarray(jax.jit(measure)(jax.random.key(0))).mean(axis=0)
        print(engine, *(f"{x:.1f}" for x in returns))


if __name__ == "__main__":
    main(*sys.argv[1:])
