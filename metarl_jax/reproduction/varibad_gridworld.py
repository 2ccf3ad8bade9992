"""Zintgraf et al. 2020, arXiv 1910.08348, section 5.1: a grid with a hidden goal.

The paper shows a curve, not numbers. Every goal is met equally often, so that where
nothing else is drawn the numbers are exact.
"""

import functools

import jax
import numpy as np

from metarl_jax.envs.grid_navigation import goal_cells, grid_navigation
from metarl_jax.evaluation import adaptation_rounds
from metarl_jax.reproduction.measuring import COMPILER_OPTIONS, keep_agent
from metarl_jax.reproduction.table import Cell, Measurement, Table
from metarl_jax.runs import interruption
from metarl_jax.strategies import bandit, grid
from metarl_jax.types import Agent, Key, Policy

NUM_EPISODES = 4
BAYES_OPTIMUM = (4.0, *[11 + 1 / 14] * 3)


def returns_on_every_goal(
    key: Key, policy: Policy, agent: Agent, *, num_trials: int, num_episodes: int
) -> np.ndarray:
    """Measures the return of each episode of trials with every goal.

    Args:
      key: consumed.
      policy: how the agent acts, learning as it does.
      agent: at the start of a trial.
      num_trials: with each goal.
      num_episodes: of a trial.

    Returns:
      `[21 · num_trials, num_episodes]`.
    """
    tasks = grid_navigation()
    task = tasks.sample(key)

    def run(key, goal):
        return adaptation_rounds(
            key,
            tasks,
            policy,
            keep_agent,
            agent,
            task.replace(goal=goal),
            num_episodes=1,
            num_adaptation_steps=num_episodes - 1,
        )[:, 0]

    goals = np.repeat(goal_cells(), num_trials, axis=0)
    keys = jax.random.split(key, len(goals))
    outputs = jax.jit(jax.vmap(run), compiler_options=COMPILER_OPTIONS)(keys, goals)
    interruption.wait(outputs)
    return np.asarray(outputs, np.float64)


def varibad_gridworld(*, seed: int = 0, num_trials: int = 1000) -> Table:
    """Builds the table.

    Args:
      seed: decides what is drawn.
      num_trials: with each goal, of an agent that draws.
    """
    key = jax.random.key(seed)

    def known_goal():
        tasks = grid_navigation()
        task = tasks.sample(key)
        oracle = jax.vmap(
            lambda goal: tasks.oracles["known goal"](key, task.replace(goal=goal))
        )
        returns = np.asarray(oracle(goal_cells()), np.float64)
        return np.repeat(returns[:, None], NUM_EPISODES, axis=1)

    def strategy(policy, num_trials):
        agent = Agent({}, policy.initial_memory())
        return lambda: returns_on_every_goal(
            key, policy, agent, num_trials=num_trials, num_episodes=NUM_EPISODES
        )

    rows = {
        "known goal": known_goal,
        "Bayes-optimal": strategy(grid.BayesOptimalGrid(), 1),
        "posterior sampling": strategy(grid.PosteriorSamplingGrid(), num_trials),
        "random": strategy(bandit.epsilon_greedy(5, epsilon=1), num_trials),
    }
    cells = []
    for row, run in rows.items():
        run, enumerated = functools.cache(run), row in ("known goal", "Bayes-optimal")
        for episode in range(NUM_EPISODES):

            def measure(_, run=run, episode=episode, enumerated=enumerated):
                returns = run()[:, episode]
                return Measurement(returns.mean()[None] if enumerated else returns)

            optimum = None if row == "known goal" else BAYES_OPTIMUM[episode]
            cells.append(Cell(row, f"episode {episode + 1}", measure, optimum=optimum))
    return Table(
        name="varibad-gridworld",
        title="Zintgraf et al. 2020, section 5.1",
        quantity="return of each episode of a trial, mean over the 21 goals",
        cells=tuple(cells),
        notes=(
            "The first two rows are exact. No agent that must find the goal has more "
            "than the second in any episode.",
        ),
    )
