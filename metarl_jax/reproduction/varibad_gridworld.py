"""Zintgraf et al. 2020, arXiv 1910.08348, section 5.1: a grid with a hidden goal.

The paper shows a curve, not numbers. Every goal is met equally often, so that where
nothing else is drawn the numbers are exact.
"""

import functools

import jax
import numpy as np

from metarl_jax.envs.grid_navigation import goal_cells, grid_navigation
from metarl_jax.envs.grids import CellObservation
from metarl_jax.evaluation import adaptation_rounds
from metarl_jax.reproduction.learned import learned
from metarl_jax.reproduction.measuring import COMPILER_OPTIONS, keep_agent
from metarl_jax.reproduction.table import Measurement, Table, episode_cells
from metarl_jax.runs import interruption
from metarl_jax.strategies import bandit, grid
from metarl_jax.types import Agent, Key, Policy

NUM_EPISODES = 6  # the learners are trained on trials of four
BAYES_OPTIMUM = (4.0, *[11 + 1 / 14] * 5)


def returns_on_every_goal(
    key: Key,
    policy: Policy,
    agent: Agent,
    *,
    num_trials: int,
    num_episodes: int,
    observation: CellObservation = "one_hot",
) -> np.ndarray:
    """Measures the return of each episode of trials with every goal.

    Args:
      key: consumed.
      policy: how the agent acts, learning as it does.
      agent: at the start of a trial.
      num_trials: with each goal.
      num_episodes: of a trial.
      observation: how the agent's cell is shown.

    Returns:
      `[21 · num_trials, num_episodes]`.
    """
    tasks = grid_navigation(observation=observation)
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


def varibad_gridworld(
    *, seed: int = 0, num_trials: int = 1000, num_learned: int = 50
) -> Table:
    """Builds the table.

    Args:
      seed: decides what is drawn.
      num_trials: with each goal, of an agent that draws.
      num_learned: with each goal, of each trained seed.
    """
    key = jax.random.key(seed)
    on_every_goal = functools.partial(
        returns_on_every_goal, key, num_episodes=NUM_EPISODES
    )

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
        return lambda: on_every_goal(policy, agent, num_trials=num_trials)

    def exact(returns):
        return lambda _: Measurement(returns().mean(axis=0)[None])

    def drawn(returns):
        return lambda _: Measurement(returns())

    # As the authors' code shows a cell. Shown it one-hot, agents learn more slowly, and
    # settle on worse ways through the first episode.
    shown: CellObservation = "coordinates"

    def trained(experiment, **options):
        def returns(algorithm, agent):
            return on_every_goal(
                algorithm.policy, agent, num_trials=num_learned, observation=shown
            )

        return learned(experiment, {"observation": shown, **options}, returns)

    row = functools.partial(episode_cells, optima=BAYES_OPTIMUM)
    return Table(
        name="varibad-gridworld",
        title="Zintgraf et al. 2020, section 5.1",
        quantity="return of each episode of a trial, mean over the 21 goals",
        cells=(
            *row("known goal", exact(known_goal), optima=(None,) * NUM_EPISODES),
            *row("Bayes-optimal", exact(strategy(grid.BayesOptimalGrid(), 1))),
            *row(
                "VariBAD",
                trained("grid-varibad", entropy_coeff=0.03, entropy_decay_steps=2000),
                quick=False,
            ),
            *row("RL²", trained("grid-rl2"), quick=False),
            *row(
                "posterior sampling",
                drawn(strategy(grid.PosteriorSamplingGrid(), num_trials)),
            ),
            *row(
                "posterior sampling that stops at the goal",
                drawn(strategy(grid.PosteriorSamplingGrid(stops=True), num_trials)),
            ),
            *row(
                "random",
                drawn(strategy(bandit.epsilon_greedy(5, epsilon=1), num_trials)),
            ),
        ),
        notes=(
            "The first two rows are exact. No agent that must find the goal has more "
            "than the second in any episode. RL² and VariBAD see the coordinates of "
            "their cell, and are trained on trials of four episodes, three seeds each.",
        ),
    )
