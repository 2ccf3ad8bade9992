"""How many steps of interaction an agent needs: learning curves and when they arrive.

A learner that adapts and one that learns from scratch are measured alike: act, learn
from what happened, and be evaluated on fresh episodes, which are neither learned from
nor counted.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import lifetimes, rollout
from metarl_jax.evaluation import Adapt
from metarl_jax.types import Agent, Key, Policy, Task, TaskDistribution
from metarl_jax.validation import (
    check_agent,
    check_functions,
    check_key,
    check_positive,
    check_tasks,
)


class LearningCurve(NamedTuple):
    """The returns of one agent on one task, before and after each of R rounds."""

    steps: Any  # [R + 1] environment steps taken to learn from, beginning at 0
    returns: Any  # [R + 1] mean return of the evaluation episodes


def learning_curve(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    task: Task,
    *,
    num_rounds: int,
    num_episodes: int,
    num_eval_episodes: int,
) -> LearningCurve:
    """Learns one task in R rounds and evaluates before, between and after them.

    Args:
      key: consumed.
      tasks: the family.
      policy: how the agent acts; actions are sampled.
      adapt: what is learned in a round, from its trajectories `[E, T, ...]`: an
        adaptation step, or epochs of an algorithm that starts from scratch.
      agent: where learning starts.
      task: the task.
      num_rounds: R.
      num_episodes: E, episodes of a round.
      num_eval_episodes: fresh episodes of each evaluation.

    Returns:
      A `LearningCurve`.

    Raises:
      ValueError: if a count is below 1.
    """
    check_key(key)
    check_positive(
        num_rounds=num_rounds,
        num_episodes=num_episodes,
        num_eval_episodes=num_eval_episodes,
    )
    check_functions(adapt=adapt)
    check_tasks(tasks)
    check_agent(tasks, policy, agent, task)

    def mean_return(key, agent):
        _, trajectories = rollout.collect(
            key, tasks, policy, agent, task, num_episodes=num_eval_episodes
        )
        return jnp.mean(rollout.episode_returns(trajectories))

    def one_round(agent, key):
        key_collect, key_adapt, key_evaluate = jax.random.split(key, 3)
        agent, trajectories = rollout.collect(
            key_collect, tasks, policy, agent, task, num_episodes=num_episodes
        )
        agent = adapt(key_adapt, agent, trajectories)
        taken = jnp.sum(trajectories.mask)
        return agent, (taken, mean_return(key_evaluate, agent))

    key_first, key_rounds = jax.random.split(key)
    first = mean_return(key_first, agent)
    _, (taken, returns) = jax.lax.scan(
        one_round, agent, jax.random.split(key_rounds, num_rounds)
    )
    return LearningCurve(
        jnp.pad(jnp.cumsum(taken), (1, 0)), jnp.concatenate([first[None], returns])
    )


def life_curve(
    key: Key,
    tasks: TaskDistribution,
    policy: Policy,
    adapt: Adapt,
    agent: Agent,
    task: Task,
    *,
    num_rounds: int,
    num_updates: int,
    num_streams: int,
    num_steps: int,
    num_eval_episodes: int,
) -> LearningCurve:
    """Follows a life: W streams, an update after every T steps, and evaluations.

    How a rule is tried, a learned one or a hand-made one: from a fresh agent, in a task
    that was not learned from, with returns of fresh episodes as in `learning_curve`.

    Args:
      key: consumed.
      tasks: the family, compiled.
      policy: how the agent acts, without memory; actions are sampled.
      adapt: the rule's update, of pieces `[W, T, ...]`.
      agent: who is born.
      task: the task.
      num_rounds: R, evaluations after the first.
      num_updates: from one to the next.
      num_streams: W.
      num_steps: T, steps of each stream from update to update.
      num_eval_episodes: fresh episodes of each evaluation.

    Returns:
      A `LearningCurve`, whose steps are multiples of `num_updates` W T.

    Raises:
      ValueError: if a count is below 1, or agents cannot live in these tasks.
    """
    check_key(key)
    counts = {"num_updates": num_updates, "num_steps": num_steps}
    check_positive(
        num_rounds=num_rounds,
        num_streams=num_streams,
        num_eval_episodes=num_eval_episodes,
        **counts,
    )
    check_functions(adapt=adapt)
    check_tasks(tasks)
    check_agent(tasks, policy, agent, task)
    lifetimes.check_lives(tasks, policy)

    def mean_return(key, agent):
        _, trajectories = rollout.collect(
            key, tasks, policy, agent, task, num_episodes=num_eval_episodes
        )
        return jnp.mean(rollout.episode_returns(trajectories))

    def once(carry, key):
        agent, streams = carry
        key_act, key_adapt = jax.random.split(key)
        streams, trajectories = lifetimes.act_all(
            key_act, tasks, policy, agent, task, streams, num_steps=num_steps
        )
        return (adapt(key_adapt, agent, trajectories), streams), None

    def one_round(carry, key):
        key_live, key_evaluate = jax.random.split(key)
        carry, _ = jax.lax.scan(once, carry, jax.random.split(key_live, num_updates))
        return carry, mean_return(key_evaluate, carry[0])

    key_first, key_streams, key_rounds = jax.random.split(key, 3)
    streams = lifetimes.begin_all(key_streams, tasks, task, num_streams=num_streams)
    first = mean_return(key_first, agent)
    _, returns = jax.lax.scan(
        one_round, (agent, streams), jax.random.split(key_rounds, num_rounds)
    )
    taken = num_updates * num_streams * num_steps
    return LearningCurve(
        taken * jnp.arange(num_rounds + 1), jnp.concatenate([first[None], returns])
    )


def steps_to_return(curve: LearningCurve, *, level: float) -> float:
    """Returns the steps taken before the first evaluation at or above a level.

    Args:
      curve: concrete, not traced.
      level: the return to reach.

    Returns:
      Environment steps; infinity if the curve never reaches the level.

    Raises:
      ValueError: if the curve is not one.
    """
    steps, returns = _checked(curve)
    reached = returns >= level
    return float(steps[np.argmax(reached)]) if reached.any() else np.inf


def returns_at(curve: LearningCurve, steps: np.ndarray) -> np.ndarray:
    """Reads a learning curve: the return of the agent that has taken so many steps.

    Args:
      curve: concrete, not traced.
      steps: `[G]`, each at least 0.

    Returns:
      `[G]`, the latest evaluation at or before each; NaN beyond the curve's end.

    Raises:
      ValueError: if the curve is not one, or a step is below 0.
    """
    known, returns = _checked(curve)
    steps = np.asarray(steps)
    if np.any(steps < 0):
        raise ValueError(f"steps must be at least 0; got {steps}")
    latest = np.searchsorted(known, steps, side="right") - 1
    return np.where(steps <= known[-1], returns[latest], np.nan)


def _checked(curve: LearningCurve) -> tuple[np.ndarray, np.ndarray]:
    """Returns a curve's steps and returns.

    Raises:
      ValueError: unless they are as `LearningCurve` says.
    """
    steps, returns = np.asarray(curve.steps), np.asarray(curve.returns)
    if steps.ndim != 1 or steps.shape != returns.shape or steps.size == 0:
        raise ValueError(
            "a learning curve must have steps [R + 1] and returns [R + 1]; got shapes "
            f"{steps.shape} and {returns.shape}"
        )
    if steps[0] != 0 or np.any(np.diff(steps) < 0):
        raise ValueError(
            f"the steps of a learning curve must begin at 0 and never fall; got {steps}"
        )
    return steps, returns
