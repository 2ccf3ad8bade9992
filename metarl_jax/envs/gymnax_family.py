"""Any gymnax environment as a task family: five lines for one of your own."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment
from gymnax.wrappers.purerl import GymnaxWrapper

from metarl_jax import spaces
from metarl_jax.envs.one_task import drawn_and_kept
from metarl_jax.envs.tracing import depends, written_numbers
from metarl_jax.types import Key, Observation, Task, TaskDistribution
from metarl_jax.validation import check_positive


def gymnax_family(
    env: Environment,
    sample_params: Callable[[Key], Task],
    *,
    sample_heldout_params: Callable[[Key], Task] | None = None,
    horizon: int | None = None,
    oracles: Mapping[str, Callable[[Key, Task], jax.Array]] | None = None,
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None,
    encode: Callable[[Observation], Observation] | None = None,
    allow_resampling: bool = False,
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

    The task must live in the params alone, because what `reset_env` draws is drawn
    again in every episode of a trial. That is tested: a part of the state that resets
    of one task draw differently, no step changes, and rewards, ends or other parts of
    the state follow, is refused (`metarl_jax.envs.one_task`). Random starts are not.

    The time limit is no end: `step_env` returns whether an episode ended by itself. One
    that ends it by `max_steps_in_episode` too, as gymnax had it before 1.0, is asked a
    second time with a later limit (XLA computes only once what does not depend on it).

    Args:
      env: the environment. `reset_env`, `step_env`, `is_truncated` and the two spaces
        are used, but not `reset` and `step`; a wrapper must override the former two. It
        is given actions within its action space (`metarl_jax.spaces.given`).
      sample_params: `(key) -> params`, pure; meta-training tasks.
      sample_heldout_params: the same for meta-test tasks; None: `sample_params`.
      horizon: T, steps; written into every task's `max_steps_in_episode`. None: the
        environment's own default.
      oracles: reference returns by name, each `(key, task) -> []`.
      optimal_action: as in `TaskDistribution`.
      encode: what a policy sees of an observation; None: one array of floats, by the
        observation space (`metarl_jax.spaces.encoder`). `lambda obs: obs` for a policy
        of one's own that reads a `Dict`.
      allow_resampling: whether resets may draw what only a task should hold: for
        environments that are random on purpose, as a memory test is.

    Returns:
      The family; its tasks' leaves are arrays.

    Raises:
      ValueError: if the horizon is below 1, the environment's own `step` or `reset`
        would be passed by, its methods cannot be traced with the sampled params, they
        or the samplers draw random numbers without the key, a step changes the shape or
        type of the state or observation, a reward is not a scalar, held-out params are
        of other shapes than meta-training ones, an observation cannot be encoded or is
        not what its space declares, an episode ends by a count of the time limit that
        its reset begins, or resets draw what only a task should hold.
    """
    _check_methods(env)
    if horizon is None:
        horizon = int(env.default_params.max_steps_in_episode)
    check_positive(horizon=horizon)

    def with_horizon(sample):
        def sample_task(key):
            params = dataclasses.replace(sample(key), max_steps_in_episode=horizon)
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), params)

        return sample_task

    sample = with_horizon(sample_params)
    heldout_params = sample_heldout_params or sample_params
    sample_heldout = with_horizon(heldout_params)
    samplers = (sample_params, heldout_params)
    obs, space = _check(env, *(with_horizon(_uncompiled(one)) for one in samplers))
    env = _without_end_by_time_limit(env, sample)
    if not allow_resampling:
        _check_one_task(env, sample)
        if sample_heldout_params is not None:
            _check_one_task(env, sample_heldout)
    if encode is None:
        encode = spaces.encoder(space, f"the observation of {env.name}")
        jax.eval_shape(encode, obs)
    return TaskDistribution(
        env, sample, sample_heldout, horizon, oracles or {}, optimal_action, encode
    )


class _TimeLimitApart(GymnaxWrapper):
    """An environment that takes its time limit for an end, told apart."""

    def step_env(self, key, state, action, params):
        """Steps; the end is that which a later limit would not have put off."""
        obs, new, reward, _, info = self._env.step_env(key, state, action, params)
        later = 2 * params.max_steps_in_episode + 2
        params = dataclasses.replace(params, max_steps_in_episode=later)
        terminated = self._env.step_env(key, state, action, params)[3]
        return obs, new, reward, terminated, info


def _uncompiled(function: Callable) -> Callable:
    """Returns what a function compiled by `jax.jit` was made of; others as they are."""
    is_compiled = hasattr(function, "lower")
    return getattr(function, "__wrapped__", function) if is_compiled else function


def _without_end_by_time_limit(env, sample) -> Environment:
    """Tells the end of an environment from its time limit, if it does not itself."""

    def terminated(limit_of_reset, limit_of_step, key):
        task = sample(key)
        limits = (limit_of_reset, limit_of_step)
        early, late = (
            dataclasses.replace(task, max_steps_in_episode=limit) for limit in limits
        )
        _, state = env.reset_env(key, early)
        space = env.action_space(task)
        action = spaces.given(space, spaces.draw(key, space))
        return env.step_env(key, state, action, late)[3]

    limit = jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.make_jaxpr(terminated)(limit, limit, jax.random.key(0)).jaxpr
    if depends(traced, 0, 0):
        raise ValueError(
            f"{env.name} ends an episode by what its reset makes of "
            "max_steps_in_episode, a time limit taken for an end; the limit is "
            "required to be `is_truncated`'s alone"
        )
    return cast(Environment, _TimeLimitApart(env)) if depends(traced, 0, 1) else env


def _check_methods(env) -> None:
    """Refuses a wrapper whose `step` or `reset` would be passed by."""

    def place(one, name):
        """How far from the object a method is defined."""
        owners = [vars(one), *(vars(owner) for owner in type(one).__mro__)]
        return next((i for i, x in enumerate(owners) if name in x), len(owners))

    while env is not None and hasattr(env, "step_env"):
        for passed_by, used in (("step", "step_env"), ("reset", "reset_env")):
            if place(env, passed_by) < place(env, used):
                raise ValueError(
                    f"{type(env).__name__} has a `{passed_by}` of its own, which would "
                    f"be passed by: episodes are made of `reset_env` and `step_env`, "
                    f"and a wrapper must override `{used}`"
                )
        env = vars(env).get("_env", vars(env).get("env"))


def _check_one_task(env, sample) -> None:
    """Refuses an environment that keeps a task in its state."""
    drawn = drawn_and_kept(env, sample)
    if drawn:
        name, values = next(iter(drawn.items()))
        examples = " and ".join(
            np.array2string(value, threshold=8, precision=3) for value in values
        )
        raise ValueError(
            f"{env.name} draws {', '.join(drawn)} anew at every reset of one task "
            f"({name} was {examples}), keeps it in its state, and rewards or "
            "transitions follow it, so a trial would not have one task; an environment "
            "whose task is in its params is required, or allow_resampling=True where "
            "that is the purpose"
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
        # Twice: what draws without the key draws another number in the second.
        (first, shapes), (second, _) = (
            jax.make_jaxpr(function, return_shape=True)(jax.random.key(0))
            for function in (trace, lambda key: trace(key))
        )
    except Exception as error:
        raise ValueError(
            f"{type(env).__name__} must have `reset_env`, `step_env`, `action_space` "
            "and `observation_space` that can be traced with the sampled params; got "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        ) from error

    tasks, before, after, (reward, done) = shapes
    numbers = zip(written_numbers(first), written_numbers(second), strict=False)
    for one, other in numbers:
        if not np.array_equal(one, other, equal_nan=True):
            raise ValueError(
                "the samplers and the environment must draw by their key alone, since "
                "a compiled step calls them once; traced twice, those of "
                f"{env.name} used {one} and {other}"
            )
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
