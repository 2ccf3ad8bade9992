"""What an environment and its samplers must be to make a family of tasks."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment

from metarl_jax import spaces
from metarl_jax.envs.one_task import drawn_and_kept
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.tracing import unequal_numbers
from metarl_jax.types import Key, Observation, Task
from metarl_jax.validation import shown


def check_methods(env: Environment) -> None:
    """Raises a `ValueError` if it is none, or own `step`s would be passed by."""
    for method in ("default_params", "reset_env", "step_env", "is_truncated"):
        if isinstance(env, type) or not hasattr(env, method):
            raise ValueError(
                f"env must be a gymnax environment; got {shown(env)}, which has no "
                f"{method}"
            )

    def place(one, name):
        """How far from the object a method is defined."""
        owners = [vars(one), *(vars(owner) for owner in type(one).__mro__)]
        return next((i for i, x in enumerate(owners) if name in x), len(owners))

    one: Any = env
    while hasattr(one, "step_env"):
        for passed_by, used in (("step", "step_env"), ("reset", "reset_env")):
            if place(one, passed_by) < place(one, used):
                raise ValueError(
                    f"{type(one).__name__} has a `{passed_by}` of its own, which would "
                    f"be passed by: episodes are made of `reset_env` and `step_env`, "
                    f"and a wrapper must override `{used}`"
                )
        one = vars(one).get("_env", vars(one).get("env"))


def check_one_task(env: Environment, sample: Callable[[Key], Task]) -> None:
    """Raises a `ValueError` if resets draw a task that the state keeps."""
    drawn = drawn_and_kept(env, sample)
    if drawn:
        name, values = next(iter(drawn.items()))
        examples = " and ".join(
            np.array2string(value, threshold=8, precision=3) for value in values
        )
        raise ValueError(
            f"{env.name} draws {', '.join(drawn)} anew at every reset of one task "
            f"({name} was {examples}), keeps it in its state, and rewards or "
            "transitions follow it, so a trial would not have one task; name what is "
            f"the task, as in gymnax_family(..., drawn_at_reset={_fields(drawn)}), or "
            "set allow_resampling=True where that is the purpose"
        )


def _fields(drawn: dict) -> tuple[str, ...]:
    """Returns the names of the state's fields, of the paths of its leaves."""
    return tuple(dict.fromkeys(re.split(r"\W+", name)[1] for name in drawn))


def check_traced(
    env: Environment,
    sample: Callable[[Key], Task],
    sample_heldout: Callable[[Key], Task],
) -> tuple[Observation, Any]:
    """Traces one reset and one step abstractly; nothing is computed.

    Returns:
      An observation's shapes, and its space.

    Raises:
      ValueError: if that cannot be done, something is drawn without the key, or shapes
        and types do not agree.
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
            (reward, done),
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
    check_fits(f"two tasks of {env.name}", num_bytes(tasks))
    numbers = unequal_numbers(first, second)
    if numbers is not None:
        raise ValueError(
            "the samplers and the environment must draw by their key alone, since "
            "a compiled step calls them once; traced twice, those of "
            f"{env.name} used {numbers[0]} and {numbers[1]}"
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
