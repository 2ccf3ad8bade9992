"""Times sixteen seeds in one compiled program against sixteen separate runs.

    JAX_NUM_CPU_DEVICES=2 python benchmarks/seeds.py

MAML with a trust region on 2-D navigation, as `point-nav-maml-quick` has it, in two
sweeps: sixteen seeds, and eight inner learning rates with two seeds each. Compilation
is part of every time, and no compiled program is kept from one run to another, so that
a separate run compiles as the first run of an experiment does:

- vmap: all members together in one program;
- map: one program, the members one after another in each step;
- devices: the same, the members shared out over the devices, if there are several;
- separate: every member traced, compiled and run by itself.

"compiled once" is what the separate runs would take if only the first had to compile.
What one program learns is compared with the separate runs, member by member. Writes
JSON and prints a table.
"""

import argparse
import contextlib
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import add_record_options, finish

from metarl_jax import surrogates
from metarl_jax.algorithms.maml import maml
from metarl_jax.batching import map_seeds
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.runs.devices import Placement, moved, place
from metarl_jax.runs.experiment import seed_keys
from metarl_jax.settings import (
    OuterOptimizerName,
    OuterUpdate,
    group_size_for_device,
)
from metarl_jax.types import MetaAlgorithm

OUTPUT = Path(__file__).parent / "results" / "seeds.json"
INNER_LR = 0.1
SWEEPS = ("seeds", "learning rates")


class Size(NamedTuple):
    """How large the experiment is."""

    num_members: int = 16
    num_tasks: int = 20
    num_episodes: int = 20
    horizon: int = 100
    num_steps: int = 40
    outer_optimizer: OuterOptimizerName = "trust-region"


QUICK = Size(2, 2, 2, 5, 2, outer_optimizer="adam")


class Run(NamedTuple):
    """What a run took and learned."""

    compile_seconds: float
    train_seconds: float
    params: Any  # after the last step
    return_after: np.ndarray  # [steps], or [steps, members]


def algorithm(size: Size, inner_lr: jax.Array) -> MetaAlgorithm:
    """Builds MAML; the learning rate may be traced."""
    tasks = point_navigation(horizon=size.horizon)
    return maml(
        tasks,
        mlp_policy(tasks, hidden_sizes=(64, 64)),
        num_tasks=size.num_tasks,
        num_episodes=size.num_episodes,
        inner_optimizer=optax.sgd(inner_lr),
        inner_surrogate=surrogates.likelihood_ratio,
        outer_optimizer=OuterUpdate(size.outer_optimizer).make(),
        task_group_size=group_size_for_device(None, size.num_tasks),
    )


def train(
    size: Size,
    over: Callable[[Callable], Callable],
    placement: Placement,
    key_init: jax.Array,
    key_steps: jax.Array,
    inner_lr: jax.Array,
) -> Run:
    """Compiles and trains, all members that `over` maps over together.

    Args:
      size: of the experiment.
      over: `metarl_jax.batching.map_seeds`, or the identity for one member.
      placement: where the members are.
      key_init: key of the initialisation.
      key_steps: of the steps.
      inner_lr: learning rate.
    """

    def init(key, inner_lr):
        return algorithm(size, inner_lr).init(key)

    def step(i, key, state, inner_lr):
        return algorithm(size, inner_lr).step(jax.random.fold_in(key, i), state)

    def steps(i, *args):
        return over(partial(step, i))(*args)

    mesh, by_seed, _ = placement
    key_init, key_steps, inner_lr = moved((key_init, key_steps, inner_lr), by_seed)
    start = time.perf_counter()
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        jitted_init = jax.jit(over(init), out_shardings=by_seed)
        state = jitted_init.lower(key_init, inner_lr).compile()(key_init, inner_lr)
        jitted_steps = jax.jit(steps, out_shardings=by_seed)
        lowered = jitted_steps.lower(np.int32(0), key_steps, state, inner_lr)
        compiled_step = lowered.compile()
    compiled = time.perf_counter()
    infos = []
    for i in range(size.num_steps):
        state, info = compiled_step(np.int32(i), key_steps, state, inner_lr)
        infos.append(jax.device_get(info))
    end = time.perf_counter()
    return Run(
        compiled - start,
        end - compiled,
        jax.device_get(state.agent.params),
        np.stack([info.return_after for info in infos]),
    )


def agreement(together: Run, separate: list[Run]) -> dict[str, Any]:
    """Says how close what was learned together is to what was learned separately."""
    alone = jax.tree.map(lambda *x: np.stack(x), *[run.params for run in separate])
    pairs = [
        (np.ravel(a), np.ravel(b))
        for a, b in zip(
            jax.tree.leaves(together.params), jax.tree.leaves(alone), strict=True
        )
    ]
    ours, theirs = (np.concatenate(x) for x in zip(*pairs, strict=True))
    returns = np.stack([run.return_after for run in separate], axis=1)
    differences = np.abs(together.return_after - returns).max(axis=1)  # [steps]
    return {
        "bit_for_bit": str(np.array_equal(ours, theirs)),
        "relative_parameter_difference": float(
            np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        ),
        "largest_return_difference_first_step": float(differences[0]),
        "largest_return_difference_last_step": float(differences[-1]),
    }


def measure(size: Size, seeds: np.ndarray, inner_lr: np.ndarray) -> dict[str, Any]:
    """Measures one sweep, of a seed and a learning rate for each member."""
    keys = [seed_keys(int(seed), 1) for seed in seeds]
    key_init, key_steps = (jnp.stack(x) for x in zip(*keys, strict=True))
    rates = jnp.asarray(inner_lr, jnp.float32)
    separate = [
        train(size, lambda f: f, Placement(), *member)
        for member in zip(key_init, key_steps, rates, strict=True)
    ]
    compile_seconds = sum(run.compile_seconds for run in separate)
    train_seconds = sum(run.train_seconds for run in separate)
    once = separate[0].compile_seconds + train_seconds
    total = compile_seconds + train_seconds
    rows: dict[str, Any] = {
        "separate": {
            "seconds": total,
            "compile_seconds": compile_seconds,
            "train_seconds": train_seconds,
            "seconds_compiled_once": once,
        }
    }
    one_by_one = partial(map_seeds, group_size=1)
    ways = {"vmap": (map_seeds, Placement()), "map": (one_by_one, Placement())}
    num_devices = len(jax.devices())
    if num_devices > 1 and size.num_members % num_devices == 0:
        placement = place(f"seeds={num_devices}", num_seeds=size.num_members)
        ways["devices"] = (one_by_one, placement)
    for name, (over, placement) in ways.items():
        run = train(size, over, placement, key_init, key_steps, rates)
        seconds = run.compile_seconds + run.train_seconds
        rows[name] = {
            "seconds": seconds,
            "compile_seconds": run.compile_seconds,
            "train_seconds": run.train_seconds,
            "fraction_of_separate": seconds / total,
            "fraction_of_compiled_once": seconds / once,
            **agreement(run, separate),
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Times seeds in one program.")
    parser.add_argument("--num-steps", type=int)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=SWEEPS)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    size = QUICK if args.quick else Size()
    if args.num_steps is not None:
        size = size._replace(num_steps=args.num_steps)
    members = np.arange(size.num_members)
    half = size.num_members // 2
    sweeps = {
        "seeds": (members, np.full(size.num_members, INNER_LR)),
        "learning rates": (
            members // half,
            np.geomspace(0.01, 1.0, half)[members % half],
        ),
    }
    rows = {}
    for name in args.sweeps:
        seeds, inner_lr = sweeps[name]
        rows[name] = measure(size, seeds, inner_lr)
        print(f"{size.num_members} {name}, {size.num_steps} steps")
        for kind, row in rows[name].items():
            print(
                f"  {kind:10}{row['seconds']:8.1f} s, {row['compile_seconds']:.1f} s "
                "of it to compile"
            )
            if kind != "separate":
                print(
                    f"{'':12}{row['fraction_of_separate']:.0%} of separate, "
                    f"{row['fraction_of_compiled_once']:.0%} of compiled once; bit for "
                    f"bit: {row['bit_for_bit']}, parameters within "
                    f"{row['relative_parameter_difference']:.1e}",
                    flush=True,
                )
    finish(args, {"size": size._asdict(), "sweeps": rows})


if __name__ == "__main__":
    main()
