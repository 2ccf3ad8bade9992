"""A meta-algorithm of a few arithmetic operations, to test what is around one.

Run as a script it trains one in a directory, to be killed by a test.
"""

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.batching import mean_over_tasks
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.training import Evaluation, Experiment, train
from metarl_jax.types import Agent, MetaAlgorithm


class State(NamedTuple):
    agent: Agent
    count: jax.Array
    key: jax.Array
    nothing: Any


class Info(NamedTuple):
    return_before: jax.Array
    return_after: jax.Array
    skipped: jax.Array


def microscopic(
    *,
    num_steps: int = 10,
    size: int = 3,
    dtype: str = "float32",
    work: int = 0,
    skip: tuple[int, ...] = (),
    num_tasks: int = 1,
    context: int = 0,
    traces: list | None = None,
) -> Experiment:
    """A random walk of `size` numbers.

    Args:
      num_steps: steps.
      size: numbers in the state.
      dtype: of the numbers.
      work: multiplications that make a step slower.
      skip: the steps, counted from 0, that claim to be skipped.
      num_tasks: how many things a step is the mean of.
      context: numbers in the memory at the start of a trial.
      traces: grows by one whenever the step is traced.
    """

    def init(key):
        key_params, key_state = jax.random.split(key)
        params = {"w": jax.random.normal(key_params, (size,), dtype)}
        return State(
            Agent(params, jnp.zeros(context)),
            jnp.int32(0),
            key_state,
            (None, jnp.zeros((0, 2))),
        )

    def step(key, state):
        if traces is not None:
            traces.append(1)
        w = state.agent.params["w"]
        noise = mean_over_tasks(lambda key: jax.random.normal(key, w.shape, w.dtype))(
            jax.random.split(key, num_tasks)
        )
        slow = jax.lax.fori_loop(0, work, lambda i, x: jnp.sin(x), jnp.ones(1000))
        w = 0.9 * w + noise + 1e-30 * slow[0].astype(w.dtype)
        skipped = jnp.isin(state.count, jnp.array(skip, int))
        before = jnp.where(skipped, jnp.nan, -jnp.sum(w**2))
        new_state = State(
            state.agent._replace(params={"w": w}),
            state.count + 1,
            jax.random.fold_in(state.key, state.count),
            state.nothing,
        )
        return new_state, Info(before, before / 2, skipped)

    tasks = bernoulli_bandit(num_arms=2, horizon=2)
    policy = mlp_policy(tasks, hidden_sizes=())
    algorithm = MetaAlgorithm(init, step, lambda key, agent, data: agent, policy)
    return Experiment(tasks, algorithm, num_steps, Evaluation(2, 2, 1))


if __name__ == "__main__":
    train(
        microscopic(num_steps=10_000, size=400_000),
        name="microscopic",
        output_dir=sys.argv[1],
        checkpoint_every=2,
    )
