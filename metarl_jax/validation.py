"""Checks made when something is built, before anything is compiled.

One for each thing that a number can mean; each raises a `ValueError` of one sentence
with the value and what is required of it. Scalar arrays, which may be traced, pass
unread where a rate or a weight is asked for, so that a sweep can be a `jax.vmap`.
"""

import numbers
import reprlib
from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import spaces
from metarl_jax.distributions import Categorical
from metarl_jax.types import (
    Differentiation,
    DifferentiationName,
    Key,
    Policy,
    TaskDistribution,
)

Number = float | jax.Array

# What float32 holds, and still holds when it is squared, as a loss or a norm does.
LEAST = float(np.finfo(np.float32).tiny)
GREATEST = float(np.finfo(np.float32).max) ** 0.5
MAX_INDEX = 2**31 - 1


def check_at_least(least: int, /, **counts: int) -> None:
    """Raises a `ValueError` that names the first which is no count, or below `least`.

    A count is a whole number that an index of 32 bits can hold.
    """
    for name, value in counts.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < least:
            raise ValueError(
                f"{name} must be a whole number of at least {least}; got "
                f"{_shown(value)}"
            )
        if value > MAX_INDEX:
            raise ValueError(
                f"{name} must be at most {MAX_INDEX}, the largest index; got "
                f"{_shown(value)}"
            )


def check_positive(**counts: int) -> None:
    """Raises a `ValueError` that names the first which is not a count of at least 1."""
    check_at_least(1, **counts)


def check_sizes(**sizes: Sequence[int]) -> None:
    """Raises a `ValueError` that names the first which is not a sequence of counts."""
    for name, value in sizes.items():
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ValueError(
                f"{name} must be a tuple of whole numbers; got {_shown(value)}"
            )
        for size in value:
            check_positive(**{f"each of {name}": size})


def check_divides(total: int, /, *, of: str = "num_tasks", **divisors: int | None):
    """Raises a `ValueError` that names the first count which does not divide a total.

    None passes.
    """
    for name, value in divisors.items():
        if value is None:
            continue
        check_positive(**{name: value})
        if total % value:
            raise ValueError(f"{name} must divide {of}; got {value} and {total}")


def check_above_zero(**rates: Number) -> None:
    """Raises a `ValueError` that names the first number not above 0 in float32."""
    _check_numbers(rates, "above 0", lambda x: x > 0, least=LEAST)


def check_not_negative(**weights: Number) -> None:
    """Raises a `ValueError` that names the first number below 0 or not finite."""
    _check_numbers(weights, "at least 0", lambda x: x >= 0)


def check_finite(**values: Number) -> None:
    """Raises a `ValueError` that names the first number that is not finite."""
    _check_numbers(values, "finite", lambda x: x == x)


def check_fraction(**fractions: Number) -> None:
    """Raises a `ValueError` that names the first number outside [0, 1]."""
    _check_numbers(fractions, "between 0 and 1", lambda x: 0 <= x <= 1)


def _check_numbers(
    values: dict[str, Any],
    requirement: str,
    holds: Callable[[float], bool],
    least: float = 0.0,
) -> None:
    for name, value in values.items():
        if isinstance(value, jax.Array | np.ndarray):
            if value.ndim:
                raise ValueError(
                    f"{name} must be one number; got an array of shape {value.shape}"
                )
            continue
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        size: Any = value
        if not real or not holds(size):
            what = requirement if real else f"a number {requirement}"
            raise ValueError(f"{name} must be {what}; got {_shown(value)}")
        if abs(size) > GREATEST or abs(size) < least:
            held = "0" if abs(size) < least else "infinite, or its square is"
            raise ValueError(
                f"{name} must be {requirement} in float32, where it is {held}; got "
                f"{_shown(value)}"
            )


def check_flags(**flags: bool) -> None:
    """Raises a `ValueError` that names the first which is neither True nor False."""
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False; got {_shown(value)}")


def check_functions(**functions: Any) -> None:
    """Raises a `ValueError` that names the first which cannot be called."""
    for name, value in functions.items():
        if not callable(value):
            raise ValueError(f"{name} must be a function; got {_shown(value)}")


def check_choice(choices: Sequence[str], /, **names: str) -> None:
    """Raises a `ValueError` that names the first which is none of the choices."""
    for name, value in names.items():
        if not isinstance(value, str) or value not in choices:
            raise ValueError(
                f"{name} must be one of {', '.join(choices)}; got {_shown(value)}"
            )


def _shown(value: Any) -> str:
    """What a sentence says of a value: a number as it is printed, others shortened."""
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        return str(value)
    return reprlib.repr(value)


def check_differentiation(differentiation: Differentiation) -> None:
    """Raises a `ValueError` if there is no such way to differentiate adaptation."""
    choices = get_args(DifferentiationName)
    if differentiation not in choices and not callable(differentiation):
        raise ValueError(
            f"differentiation must be one of {', '.join(choices)}, or a policy of "
            f"jax.checkpoint_policies; got {differentiation!r}"
        )


def check_key(key: Key) -> None:
    """Raises a `ValueError` unless it is one key, typed or of two legacy words."""
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (
        dtype == np.uint32 and len(shape or ()) == 1
    ):
        what = _shown(key) if shape is None else f"{dtype} of shape {shape}"
        raise ValueError(
            f"key must be one random key, as jax.random.key(0) makes; got {what}"
        )


def check_optimizers(**optimizers: Any) -> None:
    """Raises a `ValueError` that names the first which is no optax transformation.

    None passes, where it stands for the default.
    """
    for name, value in optimizers.items():
        parts = [getattr(value, part, None) for part in ("init", "update")]
        if value is not None and not all(map(callable, parts)):
            raise ValueError(
                f"{name} must be an optax transformation, such as optax.adam(1e-3); "
                f"got {_shown(value)}"
            )


def check_surrogates(**surrogates: Any) -> None:
    """Raises a `ValueError` that names the first which is no meta-gradient estimator.

    One of the signature of `metarl_jax.surrogates`, traced abstractly.
    """
    steps = jax.ShapeDtypeStruct((2,), np.float32)
    mask = jax.ShapeDtypeStruct((2,), bool)
    for name, value in surrogates.items():
        try:
            got = jax.tree.map(np.shape, jax.eval_shape(value, *[steps] * 4, mask))
        except Exception as error:
            got = f"{_shown(value)}, {_reason(error)}"
        if got != ():
            raise ValueError(
                f"{name} must make a scalar of one trajectory, as the functions of "
                f"metarl_jax.surrogates do; got {got}"
            )


def check_tasks(tasks: TaskDistribution) -> None:
    """Raises a `ValueError` unless it is a `TaskDistribution` with all that has."""
    if not isinstance(tasks, TaskDistribution):
        raise ValueError(
            "tasks must be a TaskDistribution, as the functions of metarl_jax.envs "
            f"make; got {_shown(tasks)}"
        )
    check_positive(horizon=tasks.horizon)
    for name in ("sample", "sample_heldout"):
        if not callable(getattr(tasks, name)):
            raise ValueError(
                f"{name} of the tasks must be a function of a key; got "
                f"{_shown(getattr(tasks, name))}"
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
      ValueError: if it is no policy, if it has memory but episodes run side by side, or
        if its distribution does not produce the environment's actions.
    """
    check_tasks(tasks)
    distribution = _head(tasks, policy)
    memory = policy.initial_memory()
    if parallel_episodes and jax.tree.leaves(memory):
        raise ValueError(
            f"{type(policy).__name__} has memory, which does not pass between episodes "
            "that run side by side; a policy without memory is required (one whose "
            "initial_memory() is empty)"
        )
    key = jax.random.key(0)
    action = jax.eval_shape(lambda head: head.sample(key), distribution)
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


def check_methods(policy: Policy) -> None:
    """Raises a `ValueError` unless it has the methods of a `Policy`."""
    for method in ("init", "apply", "initial_memory"):
        if isinstance(policy, type) or not callable(getattr(policy, method, None)):
            raise ValueError(
                "a policy must have init, apply and initial_memory, as a "
                "flax.linen.Module of the shape of metarl_jax.types.Policy has; got "
                f"{_shown(policy)}, a {type(policy).__name__} without {method}"
            )


def check_critic(tasks: TaskDistribution, policy: Policy) -> None:
    """Raises a `ValueError` if no parameter of a policy moves the value it predicts."""
    derivatives = []

    @jax.custom_jvp
    def probe(value):
        return value

    def derivative(primals, tangents):
        derivatives.append(tangents)  # Not called where all are symbolically zero.
        return *primals, *tangents

    probe.defjvp(derivative)
    obs, memory, params = _example(tasks, policy)

    def total(params, obs, memory):
        return jnp.sum(probe(policy.apply(params, memory, obs)[1]))

    jax.eval_shape(jax.grad(total, allow_int=True), params, obs, memory)
    if not derivatives:
        raise ValueError(
            f"{type(policy).__name__} predicts no value; a policy with a value head "
            "(value_head=True), or a critic beside it, is required"
        )


def _example(tasks: TaskDistribution, policy: Policy) -> tuple[Any, Any, Any]:
    """Returns the shapes of an observation, the memory and the parameters."""

    def example(key):
        obs, _ = tasks.reset(key, tasks.sample(key))
        memory = policy.initial_memory()
        return obs, memory, policy.init(key, memory, obs)

    return jax.eval_shape(example, jax.random.key(0))


def _head(tasks: TaskDistribution, policy: Policy) -> Any:
    """Returns the distribution over a policy's first action, as shapes.

    Raises:
      ValueError: if it is no `Policy`.
    """
    name = type(policy).__name__
    check_methods(policy)
    try:
        obs, memory, params = _example(tasks, policy)
        acted = jax.eval_shape(policy.apply, params, memory, obs)
    except Exception as error:
        raise ValueError(
            f"{name} cannot act in {tasks.env.name}: {_reason(error)}"
        ) from error
    if not isinstance(acted, tuple) or len(acted) != 3:
        raise ValueError(
            f"{name}.apply must return the distribution, the value and the memory; got "
            f"{len(acted) if isinstance(acted, tuple) else type(acted).__name__}"
        )
    distribution, value, new_memory = acted
    numbers_of = {"value": value}
    for method in ("sample", "mode", "log_prob", "entropy", "kl"):
        if not callable(getattr(distribution, method, None)):
            raise ValueError(
                f"the head of {name} must be a distribution, as those of "
                f"metarl_jax.distributions; {_shown(distribution)} has no {method}"
            )

    def use(head, key):
        action = head.sample(key)
        return {
            "log_prob": head.log_prob(action),
            "entropy": head.entropy(),
            "kl": head.kl(head),
        }

    try:
        numbers_of |= jax.eval_shape(use, distribution, jax.random.key(0))
    except Exception as error:
        raise ValueError(
            f"the head of {name} cannot be used in {tasks.env.name}: {_reason(error)}"
        ) from error
    for what, number in numbers_of.items():
        if getattr(number, "shape", None) != ():
            raise ValueError(
                f"the {what} of {name} must be one number for one observation; got "
                f"{_shown(number)}"
            )
    if _specification(new_memory) != _specification(memory):
        raise ValueError(
            f"{name}.apply must return a memory like initial_memory(); got "
            f"{_specification(new_memory)} for {_specification(memory)}"
        )
    return distribution


def _specification(tree: Any) -> Any:
    return jax.tree.map(lambda x: (tuple(x.shape), str(x.dtype)), tree)


def _reason(error: Exception) -> str:
    """The first line of somebody else's exception."""
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}"
