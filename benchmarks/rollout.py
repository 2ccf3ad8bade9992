"""Times acting in every task family against a bare scan written by hand.

    python benchmarks/rollout.py

Every copy of the environment has a task of its own. The policies are the usual ones:
without memory two hidden layers of 64, with memory a GRU of 64. The bare scan acts and
steps the environment, and stores observation, action and reward; it knows nothing of
episode ends, log-probabilities or masks. Writes JSON and prints a table.
"""

import argparse
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from statistics import median

import jax
import jax.numpy as jnp
from measuring import add_record_options, finish, seconds

from metarl_jax import envs, rollout
from metarl_jax.policies.memory import MemoryPolicy, memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.types import Agent, Policy, TaskDistribution, Trajectory

OUTPUT = Path(__file__).parent / "results" / "rollout.json"
NUM_COPIES = (1, 16, 256, 4096)
POLICIES: dict[str, Callable[[TaskDistribution], Policy]] = {
    "without memory": lambda tasks: mlp_policy(tasks, hidden_sizes=(64, 64)),
    "with memory": lambda tasks: memory_policy(tasks, GRU(64)),
}


def families() -> dict[str, Callable[[], TaskDistribution]]:
    """Finds the factories in `envs` that build a family by default."""
    found = {}
    for module_info in pkgutil.iter_modules(envs.__path__):
        module = importlib.import_module(f"metarl_jax.envs.{module_info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            signature = inspect.signature(function)
            by_default = all(
                parameter.default is not parameter.empty
                for parameter in signature.parameters.values()
            )
            builds = signature.return_annotation is TaskDistribution
            if builds and by_default and function.__module__ == module.__name__:
                found[name] = function
    return found


def bare_scan(tasks: TaskDistribution, policy: Policy) -> Callable:
    """Writes the loop by hand: `(key, params, task) -> (obs, action, reward) [T]`."""
    env = tasks.env

    def run(key, params, task):
        obs, env_state = env.reset_env(key, task)

        def step(carry, key):
            obs, env_state, memory = carry
            distribution, _, memory = policy.apply(params, memory, obs)
            action = distribution.sample(key)
            next_obs, env_state, reward, terminated, _ = env.step_env(
                key, env_state, action, task
            )
            if isinstance(policy, MemoryPolicy):
                none = jnp.zeros((), bool)
                transition = Trajectory(
                    obs, action, reward, reward, next_obs, terminated, none, none
                )
                memory = policy.observe(memory, transition)
            return (next_obs, env_state, memory), (obs, action, reward)

        # A state may start with Python numbers.
        env_state = jax.tree.map(jnp.asarray, env_state)
        start = (obs, env_state, policy.initial_memory())
        keys = jax.random.split(key, tasks.horizon)
        return jax.lax.scan(step, start, keys)[1]

    return run


def measure(
    tasks: TaskDistribution, policy: Policy, num_copies: int, repeats: int
) -> dict[str, float]:
    """Returns the steps/s of `rollout.episode` and of the bare scan."""
    key = jax.random.key(0)
    keys = jax.random.split(key, num_copies)
    batch = jax.vmap(tasks.sample)(keys)
    memory = policy.initial_memory()
    obs, _ = tasks.reset(key, tasks.sample(key))
    params = policy.init(key, memory, obs)

    def ours(key, params, task):
        return rollout.episode(key, tasks, policy, Agent(params, memory), task)[1]

    functions = [
        jax.jit(jax.vmap(function, in_axes=(0, None, 0)))
        for function in (ours, bare_scan(tasks, policy))
    ]
    # Turn by turn, so that whatever else the machine does falls on both.
    laps = [
        [seconds(f, keys, params, batch, repeats=3)["median"] for f in functions]
        for _ in range(repeats)
    ]
    steps = num_copies * tasks.horizon
    return {
        "steps_per_second": steps / median(a for a, _ in laps),
        "bare_scan_steps_per_second": steps / median(b for _, b in laps),
        "fraction_of_bare_scan": median(b / a for a, b in laps),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Times acting in every family.")
    parser.add_argument("--families", nargs="+", default=list(families()))
    parser.add_argument("--repeats", type=int, default=5)
    add_record_options(parser, OUTPUT)
    args = parser.parse_args()
    batch_sizes = NUM_COPIES[:2] if args.quick else NUM_COPIES
    repeats = 1 if args.quick else args.repeats

    header = "".join(f"{f'{n} copies':>20}" for n in batch_sizes)
    print(f"{'steps/s (of the bare scan)':44}{header}")
    rows: dict[str, dict] = {}
    for name in args.families:
        tasks = families()[name]()
        rows[name] = {"horizon": tasks.horizon}
        for kind, make_policy in POLICIES.items():
            cells = rows[name][kind] = {
                str(n): measure(tasks, make_policy(tasks), n, repeats)
                for n in batch_sizes
            }
            print(f"{name:28}{kind:16}", end="")
            for cell in cells.values():
                share = f"({cell['fraction_of_bare_scan']:.0%})"
                print(f"{cell['steps_per_second']:13,.0f}{share:>7}", end="")
            print(flush=True)
    finish(args, {"families": rows})


if __name__ == "__main__":
    main()
