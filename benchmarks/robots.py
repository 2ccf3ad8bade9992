"""Times planar robots beside MuJoCo's own C code, and draws them.

    python benchmarks/robots.py [--figure docs/robots.png]

Random actions, every copy with a body of its own; seconds are of one process on the
CPU, so that other work on the machine does not count. MuJoCo, where it is installed,
makes as many control steps, one robot after the other in one loop. Prints a table.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.envs import locomotion, robots
from metarl_jax.envs.mujoco import Positions, is_installed
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.planar.motion import move
from metarl_jax.plotting.robots import strip

NUM_STEPS = 100


def rates(name: str, num_copies: int) -> tuple[float, float, jax.Array]:
    """Measures one robot.

    Returns:
      Seconds of compiling, control steps a second of the CPU, and the first copy's
      positions.
    """
    tree, physics = planar_robot(name)
    robot = locomotion.ROBOTS[name]
    bodies = jax.tree.map(
        lambda x: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (num_copies, *x.shape)),
        physics,
    )
    rest = jnp.tile(jnp.asarray(tree.at_rest, jnp.float32), (num_copies, 1))

    def one(state, key):
        shape = (num_copies, len(tree.motors))
        action = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
        step = robots.NUM_SUBSTEPS[name]

        def moved(body, position, velocity, action):
            return move(
                tree,
                body,
                position,
                velocity,
                action,
                seconds=robot.seconds,
                num_substeps=step,
            )

        position, velocity = state
        position, velocity = jax.vmap(moved)(bodies, position, velocity, action)
        return (position, velocity), position[0]

    def run(key):
        start = rest, jnp.zeros_like(rest)
        return jax.lax.scan(one, start, jax.random.split(key, NUM_STEPS))

    begin = time.perf_counter()
    compiled = jax.jit(run).lower(jax.random.key(0)).compile()
    compiling = time.perf_counter() - begin
    best, positions = np.inf, rest
    for seed in range(4):
        begin = time.process_time()
        _, positions = jax.block_until_ready(compiled(jax.random.key(seed)))
        best = min(best, time.process_time() - begin)
    return compiling, num_copies * NUM_STEPS / best, positions


def mujoco_rate(name: str) -> float:
    """Measures MuJoCo: control steps a second of the CPU."""
    planar = planar_robot(name)[1]
    env = Positions(locomotion.ROBOTS[name].environment)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (1000, len(planar.gear)))
    env.reset(seed=0)
    begin = time.process_time()
    for action in actions:
        env.step(action)
    return len(actions) / (time.process_time() - begin)


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, default=256)
    parser.add_argument("--figure", default=None)
    options = parser.parse_args()
    drawn = {}
    print("| robot | compiling, s | planar, steps/s | MuJoCo, steps/s |")
    print("|---|---|---|---|")
    for name in locomotion.ROBOTS:
        compiling, rate, positions = rates(name, options.copies)
        theirs = f"{mujoco_rate(name):,.0f}" if is_installed() else "–"
        print(f"| {name} | {compiling:.1f} | {rate:,.0f} | {theirs} |", flush=True)
        every = np.asarray(positions)[9::20]
        drawn[name] = (*planar_robot(name), every)
    if options.figure:
        strip(drawn, options.figure)


if __name__ == "__main__":
    main()
