"""Rakelly et al. 2019, arXiv 1903.08254: a sparse reward on a half-circle.

The paper shows a curve, not numbers.
"""

from functools import cache, partial

import jax
import numpy as np

from metarl_jax.envs.point_navigation import sparse_point_navigation
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.reproduction.learned import learned
from metarl_jax.reproduction.measuring import agent_returns, trial_returns
from metarl_jax.reproduction.table import Measurement, Table, episode_cells
from metarl_jax.strategies.half_circle import (
    NearestFirstHalfCircle,
    PosteriorSamplingHalfCircle,
)

NUM_EPISODES = 6

# Of the experiment half-circle-pearl.
TRAINING = {"num_steps": 720, "decay_steps": 720}


def pearl_half_circle(*, seed: int = 0, num_instances: int = 2000) -> Table:
    """Builds the table.

    Args:
      seed: decides the goals.
      num_instances: trials of every cell, each with one of the twenty held-out goals.
    """
    tasks = sparse_point_navigation()
    key = jax.random.key(seed)
    action_space = tasks.env.action_space(tasks.sample(key))

    def straight(_):
        oracle = tasks.oracles["straight to goal"]
        keys = jax.random.split(key, num_instances)
        returns = jax.vmap(lambda key: oracle(key, tasks.sample_heldout(key)))(keys)
        return Measurement(np.repeat(np.asarray(returns)[:, None], NUM_EPISODES, 1))

    def strategy(policy):
        returns = trial_returns(tasks, lambda _: policy, num_rounds=NUM_EPISODES)
        return cache(lambda _: Measurement(returns(key, None, num_instances)))

    def returns(algorithm, agent):
        measure = agent_returns(tasks, algorithm, num_rounds=NUM_EPISODES)
        return measure(key, agent, num_instances)

    train = cache(learned("half-circle-pearl", TRAINING, returns))

    def trained(directory):
        # Both of its rows are of the same runs.
        return train(directory.with_name("trained--pearl"))

    def met(run):
        def percentage(directory):
            trial = run(directory)
            return trial._replace(values=100.0 * (trial.values > 0))

        return percentage

    sampling = strategy(PosteriorSamplingHalfCircle())
    nearest = strategy(NearestFirstHalfCircle())
    row = partial(episode_cells, optima=(None,) * NUM_EPISODES)
    return Table(
        name="pearl-half-circle",
        title="Rakelly et al. 2019, sparse half-circle",
        quantity="return of each episode of a trial with a held-out goal",
        cells=(
            *row("straight to the goal", straight),
            *row("PEARL", trained, quick=False),
            *row("exact posterior, nearest first", nearest),
            *row("exact posterior sampling", sampling),
            *row("random", strategy(PersistentRandomPolicy(action_space))),
            *row("PEARL, goal met in %", met(trained), quick=False),
            *row("exact posterior, nearest first, goal met in %", met(nearest)),
            *row("exact posterior sampling, goal met in %", met(sampling)),
        ),
        notes=(
            "The first row knows the goal. Exact posterior sampling walks straight to "
            "one goal in an episode, drawn from those that fit all it has seen. Who "
            "goes to the nearest of those instead, and on to the next as soon as a "
            "place is ruled out, walks along the half-circle. PEARL, three seeds, may "
            "look in several places on its way; each seed begins every trial in nearly "
            "the same, so that the first episode hangs on how many of the held-out "
            "goals are there. The goal is met in an episode if it has any reward.",
        ),
    )
