"""Checks made when an algorithm is built, before anything is compiled."""

from typing import get_args

import jax

from metarl_jax import spaces
from metarl_jax.distributions import Categorical
from metarl_jax.types import (
    Differentiation,
    DifferentiationName,
    Policy,
    TaskDistribution,
)


def check_positive(**counts: int) -> None:
    """Raises a `ValueError` that names the first count which is not at least 1."""
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1; got {value!r}"
            )


def check_above_zero(**sizes: float) -> None:
    """Raises a `ValueError` that names the first size not above 0 and finite."""
    for name, value in sizes.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be above 0; got {value}")


def check_fraction(**fractions: float | jax.Array) -> None:
    """Raises a `ValueError` that names the first number outside [0, 1].

    Arrays, which may be traced, pass unread.
    """
    for name, value in fractions.items():
        if isinstance(value, int | float) and not 0 <= value <= 1:
            raise ValueError(f"{name} must be between 0 and 1; got {value}")


def check_differentiation(differentiation: Differentiation) -> None:
    """Raises a `ValueError` if there is no such way to differentiate adaptation."""
    choices = get_args(DifferentiationName)
    if differentiation not in choices and not callable(differentiation):
        raise ValueError(
            f"differentiation must be one of {', '.join(choices)}, or a policy of "
            f"jax.checkpoint_policies; got {differentiation!r}"
        )


def check_policy(
    tasks: TaskDistribution, policy: Policy, *, parallel_episodes: bool
) -> None:
    """Checks that a policy fits the family's spaces and the way it will be run.

    Args:
      tasks: the family.
      policy: the policy; traced abstractly, nothing is computed.
      parallel_episodes: whether a task's episodes run side by side, so that no memory
        can pass from one to the next.

    Raises:
      ValueError: if the policy has memory but episodes run side by side, or if its
        distribution does not produce the environment's actions.
    """
    memory = policy.initial_memory()
    if parallel_episodes and jax.tree.leaves(memory):
        raise ValueError(
            f"{type(policy).__name__} has memory, which does not pass between episodes "
            "that run side by side; a policy without memory is required (one whose "
            "initial_memory() is empty)"
        )

    def act(key):
        obs, _ = tasks.reset(key, tasks.sample(key))
        params = policy.init(key, memory, obs)
        distribution, _, _ = policy.apply(params, memory, obs)
        return distribution, distribution.sample(key)

    key = jax.random.key(0)
    distribution, action = jax.eval_shape(act, key)
    space = tasks.action_space
    num_actions = spaces.num_choices(space)
    env_name, head = tasks.env.name, type(distribution).__name__
    if num_actions is not None:
        size = (
            distribution.logits.shape if isinstance(distribution, Categorical) else ()
        )
        if size != (num_actions,):
            raise ValueError(
                f"{env_name} has {num_actions} discrete actions, which need a "
                f"Categorical head with logits of shape ({num_actions},); the policy's "
                f"is a {head}" + (f" with logits of shape {size}" if size else "")
            )
    elif not spaces.is_box(space):
        raise ValueError(
            f"actions must be of a Discrete or a Box space; {env_name} has {space!r}"
        )
    elif isinstance(distribution, Categorical) or action.shape != tuple(space.shape):
        raise ValueError(
            f"{env_name} has continuous actions of shape {space.shape}; the policy's "
            f"{head} head produces actions of shape {action.shape}, {action.dtype}"
        )
