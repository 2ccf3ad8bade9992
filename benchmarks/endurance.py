"""Runs robots for long and host worlds often, and looks for what breaks or stays.

    python benchmarks/endurance.py --steps 1000000 --runs 200

Every planar robot takes a million control steps by random actions, as it is and with
bodies whose every number is multiplied by up to 10 or divided by as much; all of it
must be finite. Then a world on the host is trained in anew 200 times; processes,
threads, descriptors and open simulators must be as many afterwards as after the first
few. Prints what was seen, and fails where something broke.
"""

import argparse
import gc
import os
import threading

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import metarl_jax
from metarl_jax.algorithms.reptile import reptile
from metarl_jax.envs import locomotion, robots
from metarl_jax.envs.planar.files import planar_robot
from metarl_jax.envs.planar.motion import move
from metarl_jax.policies.mlp import mlp_policy

COPIES = 256
EXTREME = ("mass", "inertia", "damping", "stiffness", "armature", "friction")
EXTREME += ("gear", "gravity", "density", "viscosity")


def outlasts(name: str, steps: int, extreme: bool) -> dict[str, float]:
    """Moves a robot at random; returns the greatest speed, or raises an error."""
    tree, physics = planar_robot(name)
    physics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), physics)
    seconds = locomotion.ROBOTS[name].seconds

    def body(key):
        if not extreme:
            return physics
        keys = dict(zip(EXTREME, jax.random.split(key, len(EXTREME)), strict=True))
        return physics._replace(
            **{
                part: getattr(physics, part)
                * 10.0
                ** jax.random.uniform(key, getattr(physics, part).shape, minval=-1.0)
                for part, key in keys.items()
            }
        )

    def step(body, position, velocity, action):
        small = robots.NUM_SUBSTEPS[name]
        return move(
            tree, body, position, velocity, action, seconds=seconds, num_substeps=small
        )

    @jax.jit
    def run(key):
        key_body, key_act = jax.random.split(key)
        bodies = jax.vmap(body)(jax.random.split(key_body, COPIES))
        rest = jnp.tile(jnp.asarray(tree.at_rest, jnp.float32), (COPIES, 1))

        def one(carry, key):
            (position, velocity), fastest, finite = carry
            action = jax.random.uniform(
                key, (COPIES, len(tree.motors)), minval=-1.0, maxval=1.0
            )
            position, velocity = jax.vmap(step)(bodies, position, velocity, action)
            finite &= jnp.isfinite(position).all() & jnp.isfinite(velocity).all()
            fastest = jnp.maximum(fastest, jnp.abs(velocity).max())
            return ((position, velocity), fastest, finite), None

        start = (rest, jnp.zeros_like(rest)), jnp.zeros(()), jnp.asarray(True)
        keys = jax.random.split(key_act, -(-steps // COPIES))
        return jax.lax.scan(one, start, keys)[0]

    (position, _), fastest, finite = run(jax.random.key(0))
    if not finite:
        raise FloatingPointError(f"{name} moved by what is no number")
    farthest = float(jnp.abs(position[:, 0]).max())
    return {"fastest": float(fastest), "farthest": farthest}


class Counted(gymnasium.Wrapper):
    """Pendulum, which counts those that are open."""

    opened = 0

    def __init__(self):
        super().__init__(gymnasium.make("Pendulum-v1"))
        Counted.opened += 1

    def close(self):
        """Closes it."""
        super().close()
        Counted.opened -= 1


def left() -> dict[str, int]:
    """Returns what this process holds."""
    gc.collect()
    children = f"/proc/self/task/{os.getpid()}/children"
    with open(children, encoding="utf-8") as file:
        processes = len(file.read().split())
    return {
        "processes": processes,
        "threads": len(os.listdir("/proc/self/task")),
        "Python's threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "simulators": Counted.opened,
    }


def short_run(seed: int) -> None:
    """Trains for two steps in a world on the host, made anew."""
    tasks = metarl_jax.gymnasium_family(
        Counted,
        lambda key: jax.random.uniform(key, minval=5.0, maxval=15.0),
        lambda env, task: setattr(env.unwrapped, "g", float(task)),
        horizon=3,
    )
    policy = mlp_policy(tasks, hidden_sizes=(2,))
    algorithm = reptile(tasks, policy, num_tasks=2, num_episodes=1)
    protocol = metarl_jax.Evaluation(2, 1, 0)
    experiment = metarl_jax.Experiment(tasks, algorithm, 2, protocol)
    trained = metarl_jax.train(experiment, seed=seed, quiet=True)
    if not np.isfinite(trained.metrics[-1]["return_after"]):
        raise FloatingPointError("a return is no number")


def look_for_leaks(runs: int) -> None:
    """Trains anew again and again; raises an error where something stays behind."""
    settled: dict[str, int] = {}
    for i in range(runs):
        short_run(i)
        jax.clear_caches()  # programs hold the family that they were made for
        if i == min(9, runs // 2):
            settled = left()
            print("after a few runs", settled, flush=True)
    now = left()
    print(f"after {runs} runs", now)
    grown = {key: now[key] - settled[key] for key in now if now[key] > settled[key]}
    if grown:
        raise RuntimeError(f"something stays behind: {grown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--robots", nargs="*", default=list(locomotion.ROBOTS))
    args = parser.parse_args()
    for name in args.robots:
        for extreme in (False, True):
            seen = outlasts(name, args.steps, extreme)
            bodies = "extreme bodies" if extreme else "its own body"
            print(f"{name:14}{bodies:16}", end="")
            print(" ".join(f"{k} {v:.3g}" for k, v in seen.items()), flush=True)
    if args.runs:
        look_for_leaks(args.runs)


if __name__ == "__main__":
    main()
