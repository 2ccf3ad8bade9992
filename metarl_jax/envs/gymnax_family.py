"""Any gymnax environment as a task family: five lines for one of your own."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment
from gymnax.wrappers.purerl import GymnaxWrapper

from metarl_jax import spaces
from metarl_jax.envs import checks
from metarl_jax.envs.drawn_at_reset import DrawnOnce
from metarl_jax.promotion import standard_promotion
from metarl_jax.tracing import depends
from metarl_jax.types import Key, Observation, Task, TaskDistribution, Trajectory
from metarl_jax.validation import check_flags, check_functions, check_positive


@standard_promotion()
def gymnax_family(
    env: Environment,
    sample_params: Callable[[Key], Task] | None = None,
    *,
    sample_heldout_params: Callable[[Key], Task] | None = None,
    horizon: int | None = None,
    oracles: Mapping[str, Callable[[Key, Task], jax.Array]] | None = None,
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None,
    encode: Callable[[Observation], Observation] | None = None,
    measures: Mapping[str, Callable[[Task, Trajectory], jax.Array]] | None = None,
    drawn_at_reset: Sequence[str] = (),
    allow_resampling: bool = False,
) -> TaskDistribution:
    """Makes a task distribution from an environment and a sampler of its params.

    >>> import jax
    >>> import metarl_jax
    >>> from gymnax.environments.classic_control import Pendulum
    >>> env = Pendulum()
    >>> def sample_params(key):
    ...     gravity = jax.random.uniform(key, minval=5.0, maxval=15.0)
    ...     return env.default_params.replace(g=gravity)
    >>> tasks = metarl_jax.gymnax_family(env, sample_params, horizon=200)
    >>> tasks.observation.shape
    (3,)

    The task must live in the params alone, because what `reset_env` draws is drawn
    again in every episode of a trial. That is tested: a part of the state that resets
    of one task draw differently, no step changes, and rewards, ends or other parts of
    the state follow, is refused (`metarl_jax.envs.one_task`). Random starts are not.
    Where it is a task that is drawn there, `drawn_at_reset` names it, and it is drawn
    with the params instead:
    ```python
    tasks = gymnax_family(
        Reacher(), drawn_at_reset=("goal_xy",), encode=lambda obs: obs[:-2]
    )
    ```
    (the last two numbers that `Reacher` shows are the goal).

    The time limit is no end: `step_env` returns whether an episode ended by itself. One
    that ends it by `max_steps_in_episode` too, as gymnax had it before 1.0, is asked a
    second time with a later limit (XLA computes only once what does not depend on it).

    Args:
      env: the environment. `reset_env`, `step_env`, `is_truncated` and the two spaces
        are used, but not `reset` and `step`; a wrapper must override the former two. It
        is given actions within its action space (`metarl_jax.spaces.given`).
      sample_params: `(key) -> params`, pure; meta-training tasks. None: the
        environment's own default, where the task is drawn at reset.
      sample_heldout_params: the same for meta-test tasks; None: `sample_params`.
      horizon: T, steps; written into every task's `max_steps_in_episode`. None: the
        environment's own default.
      oracles: reference returns by name, each `(key, task) -> []`.
      optimal_action: as in `TaskDistribution`.
      encode: what a policy sees of an observation; None: one array of floats, by the
        observation space (`metarl_jax.spaces.encoder`). `lambda obs: obs` for a policy
        of one's own that reads a `Dict`.
      measures: as in `TaskDistribution`.
      drawn_at_reset: fields of the state that the environment draws in `reset_env` and
        that are a part of the task: a task holds them beside the params
        (`metarl_jax.envs.drawn_at_reset`).
      allow_resampling: whether resets may draw what only a task should hold: for
        environments that are random on purpose, as a memory test is.

    Returns:
      The family; its tasks' leaves are arrays.

    Raises:
      ValueError: if the horizon is below 1, nothing says what is drawn, what must be a
        function is none, fields drawn at reset are not of the state, the environment's
        own `step` or `reset` would be passed by, its methods cannot be
        traced with the sampled params, they or the samplers draw random numbers without
        the key, a step changes the shape or type of the state or observation, a reward
        is not a scalar, held-out params are of other shapes than meta-training ones, an
        observation cannot be encoded or is not what its space declares, an episode ends
        by a count of the time limit that its reset begins, or resets draw what only a
        task should hold.
    """
    checks.check_methods(env)
    check_flags(allow_resampling=allow_resampling)
    given = {
        "sample_params": sample_params,
        "sample_heldout_params": sample_heldout_params,
        "optimal_action": optimal_action,
        "encode": encode,
        **{f"the oracle {name}": oracle for name, oracle in (oracles or {}).items()},
        **{f"the measure {name}": one for name, one in (measures or {}).items()},
    }
    check_functions(**{name: f for name, f in given.items() if f is not None})
    if horizon is None:
        horizon = int(env.default_params.max_steps_in_episode)
    check_positive(horizon=horizon)
    if sample_params is None:
        if drawn_at_reset == ():
            raise ValueError(
                f"sample_params is required for {env.name}, whose tasks differ in "
                "nothing else; got None, and drawn_at_reset is empty"
            )
        sample_params = _default_of(env)
    if drawn_at_reset != ():
        once = DrawnOnce(env, drawn_at_reset)
        sample_params = once.sampler(sample_params)
        if sample_heldout_params is not None:
            sample_heldout_params = once.sampler(sample_heldout_params)
        env = cast(Environment, once)

    def with_horizon(sample):
        sample = _uncompiled(sample)

        @standard_promotion()
        def sample_task(key):
            params = sample(key)
            # Of the type it has: some environments count it among their floats.
            limit = jnp.asarray(
                horizon,
                jnp.result_type(getattr(params, "max_steps_in_episode", horizon)),
            )
            params = dataclasses.replace(params, max_steps_in_episode=limit)
            return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), params)

        return sample_task

    sample = with_horizon(sample_params)
    sample_heldout = with_horizon(sample_heldout_params or sample_params)
    obs, space = checks.check_traced(env, sample, sample_heldout)
    env = _without_end_by_time_limit(env, sample)
    if not allow_resampling:
        checks.check_one_task(env, sample)
        if sample_heldout_params is not None:
            checks.check_one_task(env, sample_heldout)
    if encode is None:
        encode = spaces.encoder(space, f"the observation of {env.name}")
        jax.eval_shape(encode, obs)
    return TaskDistribution(
        env,
        sample,
        sample_heldout,
        horizon,
        oracles=oracles or {},
        optimal_action=optimal_action,
        encode=encode,
        measures=measures or {},
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


def _default_of(env: Environment) -> Callable[[Key], Task]:
    return lambda key: env.default_params


def _uncompiled(function: Callable) -> Callable:
    """Returns what a function compiled by `jax.jit` was made of; others as they are.

    What a trace of it remembers would hide what it draws without the key.
    """
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
