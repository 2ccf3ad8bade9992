"""Any gymnax environment as a task family: five lines for one of your own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment

from metarl_jax import spaces
from metarl_jax.types import Key, Observation, Task, TaskDistribution
from metarl_jax.validation import check_positive

# These draw what a meta-learner should infer in `reset_env` and keep it in the state,
# so that every episode of a trial would be a new task.
_TASK_IN_STATE = {
    "BernoulliBandit-misc": "reward_probs",
    "GaussianBandit-misc": "mu",
    "MetaMaze-misc": "goal",
    "PointRobot-misc": "goal",
    "Reacher-misc": "goal_xy",
    "SimpleBandit-bsuite": "rewards",
    "Swimmer-misc": "goal_xy",
}


def gymnax_family(
    env: Environment,
    sample_params: Callable[[Key], Task],
    *,
    sample_heldout_params: Callable[[Key], Task] | None = None,
    horizon: int | None = None,
    oracles: Mapping[str, Callable[[Key, Task], jax.Array]] | None = None,
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None,
    encode: Callable[[Observation], Observation] | None = None,
) -> TaskDistribution:
    """Makes a task distribution from an environment and a sampler of its params.

    A user's own family:
    ```python
    env = CartPole()
    def sample_params(key):
        length = jax.random.uniform(key, minval=0.25, maxval=1.0)
        return env.default_params.replace(length=length, polemass_length=0.1 * length)
    tasks = gymnax_family(env, sample_params, horizon=200)
    ```

    The task must live in the params alone: what `reset_env` draws is drawn again in
    every episode. That cannot be checked in general; gymnax's own environments that
    break it are rejected by name.

    Args:
      env: the environment. `reset_env`, `step_env`, `is_truncated` and the two spaces
        are used.
      sample_params: `(key) -> params`, pure; meta-training tasks.
      sample_heldout_params: the same for meta-test tasks; None: `sample_params`.
      horizon: T, steps; written into every task's `max_steps_in_episode`. None: the
        environment's own default.
      oracles: reference returns by name, each `(key, task) -> []`.
      optimal_action: as in `TaskDistribution`.
      encode: what a policy sees of an observation; None: one array of floats, by the
        observation space (`metarl_jax.spaces.encoder`). `lambda obs: obs` for a policy
        of one's own that reads a `Dict`.

    Returns:
      The family; its tasks' leaves are arrays.

    Raises:
      ValueError: if the horizon is below 1, the environment keeps its task in its
        state, its methods cannot be traced with the sampled params, a step changes the
        shape or type of the state or observation, a reward is not a scalar,
        held-out params are of other shapes than meta-training ones, or an observation
        cannot be encoded or is not what its space declares.
    """
    module = type(env).__module__
    if module.startswith("gymnax.") and env.name in _TASK_IN_STATE:
        raise ValueError(
            f"{env.name} draws `{_TASK_IN_STATE[env.name]}` anew at every reset and "
            "keeps it in its state, so a trial would not have one task; an environment "
            "whose task is in its params is required"
        )
    if horizon is None:
        horizon = int(env.default_params.max_steps_in_episode)
    check_positive(horizon=horizon)

    def with_horizon(sample):
        def sample_task(key):
            params = dataclasses.replace(sample(key), max_steps_in_episode=horizon)
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), params)

        return sample_task

    sample = with_horizon(sample_params)
    sample_heldout = with_horizon(sample_heldout_params or sample_params)
    obs, space = _check(env, sample, sample_heldout)
    if encode is None:
        encode = spaces.encoder(space, f"the observation of {env.name}")
        jax.eval_shape(encode, obs)
    return TaskDistribution(
        env, sample, sample_heldout, horizon, oracles or {}, optimal_action, encode
    )


def _check(env, sample, sample_heldout) -> tuple[Observation, Any]:
    """Traces one reset and one step abstractly; nothing is computed.

    Returns:
      An observation's shapes, and its space.
    """
    observation_spaces = []

    def trace(key):
        task = sample(key)
        obs, state = env.reset_env(key, task)
        action_space = env.action_space(task)
        action = spaces.given(action_space, spaces.draw(key, action_space))
        observation_spaces.append(env.observation_space(task))
        next_obs, next_state, reward, terminated, _ = env.step_env(
            key, state, action, task
        )
        done = jnp.logical_or(terminated, env.is_truncated(next_state, task))
        return (
            (task, sample_heldout(key)),
            (obs, state),
            (next_obs, next_state),
            (
                reward,
                done,
            ),
        )

    try:
        tasks, before, after, (reward, done) = jax.eval_shape(trace, jax.random.key(0))
    except Exception as error:
        raise ValueError(
            f"{type(env).__name__} must have `reset_env`, `step_env`, `action_space` "
            "and `observation_space` that can be traced with the sampled params; got "
            f"{type(error).__name__}: {error}"
        ) from error

    _check_same(env, "meta-training and held-out params", *tasks)
    _check_same(env, "observation and state before and after a step", *before, *after)
    if reward.shape or done.shape:
        raise ValueError(
            f"{env.name} must return a scalar reward and termination; got shapes "
            f"{reward.shape} and {done.shape}"
        )
    return before[0], observation_spaces[0]


def _check_same(env, what, *trees) -> None:
    """Compares the first half of `trees` with the second, leaf by leaf."""

    def describe(tree):
        return [
            (jax.tree_util.keystr(path), x.shape, x.dtype)
            for path, x in jax.tree_util.tree_leaves_with_path(tree)
        ]

    half = len(trees) // 2
    first, second = describe(trees[:half]), describe(trees[half:])
    if first != second:
        unequal = next(
            (a, b)
            for a, b in zip([*first, None], [*second, None], strict=False)
            if a != b
        )
        raise ValueError(
            f"{env.name} needs {what} to agree in shape and type; got {unequal[0]} and "
            f"{unequal[1]}"
        )
