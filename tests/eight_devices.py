"""One step of every algorithm on one device and on eight, printed as a line of JSON.

Run in a process of its own, as JAX looks for devices once:

    JAX_NUM_CPU_DEVICES=8 python eight_devices.py [ALGORITHM …]
"""

import importlib
import json
import re
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import quickly  # noqa: F401
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from microscopic import microscopic

import metarl_jax
from metarl_jax.batching import (
    map_seeds,
    map_tasks,
    mean_over_tasks,
    sum_over_groups,
)
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.linear_algebra import orthogonal, solve_positive
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.runs import files, machine
from metarl_jax.runs.lowering import lower
from metarl_jax.training import train
from metarl_jax.trust_region import TrustRegion

NUM_DEVICES, NUM_TASKS = 8, 16
# What they pay is exact, so that nothing is made of the order in which devices add up.
TASKS = bernoulli_bandit(num_arms=2, horizon=4)
POLICY = mlp_policy(TASKS, hidden_sizes=(8,), value_head=True)
REMEMBERS = memory_policy(TASKS, GRU(8))
PLANE = point_navigation(horizon=4)
# Many iterations of a conjugate gradient make much of a rounding error.
REGION = TrustRegion(num_cg_iterations=2, damping=1.0)
ASCENT = {"outer_optimizer": optax.sgd(1.0)}
SENT = re.compile(r" (all-[a-z]+|collective-[a-z]+)\(")
PROBLEMS = {
    **dict.fromkeys(("ad", "amago", "dpt", "rl2"), (TASKS, REMEMBERS)),
    "pearl": (PLANE, mlp_policy(PLANE, squashed=True, hidden_sizes=(8,))),
}
SETTINGS = {
    **dict.fromkeys(("anil", "cavia", "emaml", "meta_sgd", "promp"), ASCENT),
    "es_maml": {**ASCENT, "sigma": 1.0},  # so that one acts as others do not
    "maml": {"outer_optimizer": REGION},
    "hyperx": {"novelty_hidden_sizes": (8,), "novelty_output_size": 2},
    "amago": {"num_updates": 2, "batch_size": 16, "hidden_sizes": (8,)},
    "pearl": {
        "num_train_tasks": NUM_TASKS,
        "num_initial_episodes": 2,
        "num_updates": 2,
        "batch_size": 8,
        "context_size": 8,
        "capacity": 16,
        "recent_capacity": 16,
        "hidden_sizes": (8,),
        "encoder_hidden_sizes": (8,),
    },
}


def error(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-3))


def compare(name, mesh):
    module = importlib.import_module(f"metarl_jax.algorithms.{name}")
    tasks, policy = PROBLEMS.get(name, (TASKS, POLICY))
    algorithm = getattr(module, name)(
        tasks, policy, num_tasks=NUM_TASKS, num_episodes=4, **SETTINGS.get(name, {})
    )
    key = jax.random.key(0)
    state = jax.jit(algorithm.init)(key)
    one = jax.jit(algorithm.step).lower(key, state).compile()
    everywhere = NamedSharding(mesh, PartitionSpec())
    copies = jax.jit(lambda x: x, out_shardings=everywhere)((key, state))
    with jax.set_mesh(mesh):
        eight = (
            jax.jit(algorithm.step, out_shardings=everywhere).lower(*copies).compile()
        )
    new_state, info = one(key, state)
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True)
    errors = jax.tree.map(error, (new_state, info), eight(*copies))
    return {
        "moved": max(error(*pair) for pair in pairs if pair[0].dtype == jnp.float32),
        "error": max(jax.tree.leaves(errors)),
        "flops": [program.cost_analysis()["flops"] for program in (one, eight)],
    }


def factorised(mesh):
    """Errors of many matrices at once, of which every device makes all."""
    size, count, at_once = 64, 20, 4

    def of_one(key):
        drawn = [
            orthogonal(key, (size, size)) for key in jax.random.split(key, at_once)
        ]
        scales = jnp.arange(1.0, size + 1)
        solved = [solve_positive(u * scales @ u.T, u) for u in drawn]
        return jnp.stack(drawn), jnp.stack(solved)

    everywhere = NamedSharding(mesh, PartitionSpec())
    keys = jax.random.split(jax.random.key(0), count)
    keys = jax.jit(lambda keys: keys, out_shardings=everywhere)(keys)
    drawn, solved = map(
        np.asarray, jax.jit(jax.vmap(of_one), out_shardings=everywhere)(keys)
    )
    unit = np.broadcast_to(np.eye(size), drawn.shape)
    return [
        error(unit, drawn @ drawn.swapaxes(-1, -2)),
        error(drawn / np.arange(1.0, size + 1), solved),
    ]


def batched(mesh):
    """Largest error of groups of tasks on the mesh, and what is sent for them.

    Nested and differentiated too.
    """
    keys, x = jax.random.split(jax.random.key(0), 48), jnp.arange(96.0).reshape(48, 2)
    scale = jnp.array([2.0, 3.0])

    def function(key, x):
        start = jnp.zeros(2)  # the same on every device, where x is not
        body = lambda carry, _: (carry + jnp.sin(scale * x), None)  # noqa: E731
        return jax.lax.scan(body, start, length=3)[0] * jax.random.normal(key)

    def everything(group_size):
        groups = {"group_size": group_size}
        inner = map_tasks(lambda x: mean_over_tasks(jnp.sin, **groups)(x * jnp.ones(6)))
        gradient = jax.grad(
            lambda y: jnp.sum(map_tasks(lambda x: x * y**2, **groups)(x))
        )

        return (
            map_tasks(function, **groups)(keys, x),
            mean_over_tasks(function, **groups)(keys, x),
            inner(x[:, 0]),
            gradient(scale),
        )

    def along(y, x):
        return jax.lax.scan(lambda h, _: (jnp.tanh(h * y + x), None), x, length=3)[0]

    def gradient_of_group(x):
        return jax.grad(lambda y: jnp.sum(map_tasks(partial(along, y))(x)))(scale)

    def along_all(group_size, y):
        groups = {"group_size": group_size}
        return jnp.sum(map_tasks(along, learned=y, **groups)(x))

    loop = np.stack([function(key, row) for key, row in zip(keys, x, strict=True)])
    total = 2 * scale * x.sum(0)
    truth = loop, loop.mean(0), np.sin(x[:, 0]), total
    slopes = [jax.grad(lambda y, x: jnp.sum(along(y, x)))(scale, row) for row in x]
    found = {}
    with jax.set_mesh(mesh):
        for group_size in (None, 1, 2, 6, 48):
            program = jax.jit(partial(everything, group_size)).lower().compile()
            sums = jax.jit(sum_over_groups(gradient_of_group, group_size=group_size))
            sums = sums.lower(x).compile()
            loops, last = sums.as_text().split("\nENTRY")
            mapped = jax.jit(jax.grad(partial(along_all, group_size)))
            mapped = mapped.lower(scale).compile()
            in_loops, at_last = mapped.as_text().split("\nENTRY")
            found[str(group_size)] = {
                "error": max(map(error, truth, program())),
                "sent": sorted(set(SENT.findall(program.as_text()))),
                "error_of_sums": error(np.sum(slopes, axis=0), sums(x)),
                "sent_in_loops": SENT.findall(loops),
                "sent_at_last": SENT.findall(last),
                "error_of_learned": error(np.sum(slopes, axis=0), mapped(scale)),
                "learned_sent_in_loops": SENT.findall(in_loops),
                "learned_sent_at_last": SENT.findall(at_last),
            }
    return found


def seeds(devices):
    """The same of groups of seeds, each with tasks of its own, on a mesh of both."""
    keys, x = jax.random.split(jax.random.key(0), (4, 8)), jnp.arange(32.0)
    x = x.reshape(4, 8)

    def function(keys, x):
        groups = {"group_size": 1}
        doubled = map_tasks(lambda x: 2 * x, **groups)(x)
        return mean_over_tasks(jax.random.normal, **groups)(keys), jnp.mean(doubled)

    noise = [[jax.random.normal(key) for key in row] for row in keys]
    truth = np.mean(noise, axis=1), 2 * x.mean(1)
    kinds = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 4), ("seeds", "tasks"), axis_types=kinds, devices=devices)
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_seed = NamedSharding(mesh, PartitionSpec("seeds"))
    args = jax.jit(lambda x: x, out_shardings=by_seed)((keys, x))
    found = {}
    for group_size in (None, 1, 2):
        program = jax.jit(map_seeds(function, group_size=group_size))
        with jax.set_mesh(mesh):
            program = program.lower(*args).compile()
        whole = jax.jit(lambda x: x, out_shardings=everywhere)(program(*args))
        sent = SENT.findall(program.as_text())
        found[str(group_size)] = {
            "error": max(map(error, truth, whole)),
            "sent": sorted(set(sent)),
        }
    return found


def resumed():
    """What is said to a finished run whose 4 tasks are to be shared out among 3."""
    settings: Any = {"name": "microscopic", "quiet": True}
    experiment = microscopic(num_steps=1, num_tasks=4)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the other mesh
        train(experiment, output_dir=Path(folder) / "run", **settings)
        try:
            train(experiment, resume=Path(folder) / "run", mesh="tasks=3", **settings)
        except ValueError as error:
            return str(error)
    return "accepted"


def chosen():
    """The meshes of who leaves them to what pays, and what is said where they ask."""
    machine.usable_cores = lambda: NUM_DEVICES
    two = microscopic(num_steps=4, num_tasks=4)._replace(device_counts=(1, 2))

    def but(spoil):
        """The same, with something else in each step."""

        def step(key, state):
            new_state, info = two.algorithm.step(key, state)
            nothing = 0.0 * spoil(new_state.agent.params["w"])
            return new_state, info._replace(return_after=info.return_after + nothing)

        return two._replace(algorithm=two.algorithm._replace(step=step))

    def calls_host(w):
        return jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), w.dtype), w[0])

    def factorises(w):
        many = jnp.eye(2) + jnp.zeros((3, 1, 1)) * w[0]
        return jnp.linalg.cholesky(many)[0, 0, 0]

    found: dict[str, Any] = {}
    for name, experiment, num_seeds in [
        ("tasks", two, 1),
        ("seeds", two, 8),
        ("both", two, 4),
        ("neither", microscopic(num_tasks=4), 1),
        ("indivisible", two._replace(device_counts=(1, 3)), 1),
        ("host", but(calls_host), 1),
        ("factorises", but(factorises), 2),
    ]:
        found[name] = lower(experiment, 0, num_seeds, None, "auto").mesh
    with warnings.catch_warnings(record=True) as warned:
        lower(two, 0, 1, None, "tasks=2")
        lower(but(factorises), 0, 2, None, "tasks=2")
    found["warned"] = [str(warning.message) for warning in warned]
    with tempfile.TemporaryDirectory() as folder:
        settings: Any = {"name": "microscopic", "quiet": True, "mesh": "auto"}
        whole = train(two, output_dir=Path(folder) / "whole", **settings)
        part = two._replace(num_steps=2)
        train(part, output_dir=Path(folder) / "part", **settings)
        machine.usable_cores = lambda: 1
        more = train(two, resume=Path(folder) / "part", **settings)
        found["resumed"] = files.read_config(Path(folder) / "part")["mesh"]
    same = jax.tree.map(np.array_equal, whole.agent, more.agent)
    return {**found, "same": all(jax.tree.leaves(same))}


if __name__ == "__main__":
    mesh = jax.make_mesh((NUM_DEVICES,), ("tasks",), axis_types=(AxisType.Auto,))
    folder = Path(metarl_jax.__file__).parent / "algorithms"
    names = sorted({path.stem for path in folder.glob("*.py")} - {"__init__"})
    found = {name: compare(name, mesh) for name in sys.argv[1:] or names}
    groups = {"groups": batched(mesh), "seeds": seeds(jax.devices())}
    groups["factorised"] = factorised(mesh)
    print(
        json.dumps(
            {**groups, "resumed": resumed(), "chosen": chosen(), "algorithms": found}
        )
    )
