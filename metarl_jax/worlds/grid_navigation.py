"""A grid with a hidden goal (Zintgraf et al. 2020, arXiv 1910.08348)."""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from metarl_jax import rollout, trials
from metarl_jax.envs import grid_navigation as family
from metarl_jax.envs.grids import cell_of
from metarl_jax.policies.decoders import RewardPerState
from metarl_jax.recipe import World
from metarl_jax.strategies.grid import PosteriorSamplingGrid
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_at_least

NUM_TRIALS_DRAWN = 2


def tasks(
    *,
    horizon: int = 15,
    grid_size: int = 5,
    observation: Literal["one_hot", "coordinates"] = "one_hot",
    dense_reward: bool = False,
    goal_first: bool = False,
) -> TaskDistribution:
    """Builds the grid.

    Args:
      horizon: time limit of an episode in steps.
      grid_size: cells along a side.
      observation: how the agent's cell is shown.
      dense_reward: whether off the goal a step pays minus the moves that it is away,
        divided by the grid's size, and not -0.1.
      goal_first: whether an episode's first observation is the goal's cell.
    """
    check_at_least(3, grid_size=grid_size)
    return family.grid_navigation(
        horizon=horizon,
        size=grid_size,
        observation=observation,
        dense_reward=dense_reward,
        goal_first=goal_first,
    )


def goal_beliefs(tasks: TaskDistribution, algorithm: Any, options: dict) -> Any:
    """Makes what records trials with the learned belief and the exact posterior."""
    if options.get("decoder") != "reward-per-state":
        return None
    # The exact posterior is known of the grid of the paper alone.
    env: Any = tasks.env
    size = env.size
    if size != 5 or not env.hides_goal:
        return None
    decoder = RewardPerState(size**2, options["decoder_hidden_sizes"])

    def one_trial(key, state):
        key_task, key_act, key_latents = jax.random.split(key, 3)
        policy, agent = algorithm.policy, state.agent
        task = tasks.sample_heldout(key_task)
        _, trajectories = rollout.collect(
            key_act, tasks, policy, agent, task, num_episodes=options["num_episodes"]
        )
        steps = trials.stream(trajectories)
        belief = policy.beliefs(agent.params, agent.memory, steps)
        learned: Any = decoder.apply(
            state.decoder, key_latents, belief, method="which_pays"
        )
        return {
            "goal": task.goal,
            "cell": _cells(env, steps),
            "learned": learned.reshape(-1, size, size),
            "exact": _posterior(steps),
        }

    def beliefs(key, state):
        keys = jax.random.split(key, NUM_TRIALS_DRAWN)
        recorded = jax.vmap(one_trial, (0, None))(keys, state)
        return {**recorded, "horizon": tasks.horizon}

    return beliefs


def _cells(env, steps):
    """Returns where the agent is before each step and after the last, `[L + 1, 2]`."""
    obs = jnp.append(steps.obs, steps.next_obs[-1:], axis=0)
    return jax.vmap(partial(cell_of, size=env.size, observation=env.observation))(obs)


def _posterior(steps):
    """Returns the exact posterior over goals along a trial, `[L + 1, 5, 5]`."""
    agent = PosteriorSamplingGrid()

    def observe(memory, step):
        memory = agent.observe(memory, step)
        return memory, memory.possible

    start = agent.initial_memory()
    _, after = jax.lax.scan(observe, start, steps)
    possible = jnp.append(start.possible[None], after, axis=0)
    return possible / jnp.sum(possible, axis=(1, 2), keepdims=True)


grid_navigation = World(
    tasks,
    defaults={
        "gradient": {"inner_lr": 1.0, "num_episodes": 40},
        "memory": {
            "discount": 1.0,
            "num_steps": 2000,
            "num_eval_tasks": 1000,
            "num_eval_episodes": 1,
            "num_adaptation_steps": 3,
        },
        "amago": {
            "num_tasks": 8,
            "discount": 0.97,
            "num_steps": 400,
            "decay_steps": 400,
            "entropy_coeff": 0.01,
            "relabel_fraction": 0.8,
            "hindsight_fraction": 0.0,
        },
        "varibad": {
            "decoder": "reward-per-state",
            "num_bounds": None,  # all of them cost no more
            "num_decoded": None,
            "num_adaptation_steps": 5,
        },
    },
    goal_beliefs=goal_beliefs,
)
