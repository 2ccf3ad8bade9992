"""Whether all episodes of a trial are of one task: what resets draw and steps obey.

A part of the state that a reset draws is where an episode starts if steps change it, as
a position, and a task of its own if they do not and rewards or transitions follow it,
as a goal. Reading the traced program clears most environments; the others are run.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments.environment import Environment
from jax.core import Tracer

from metarl_jax import spaces
from metarl_jax.tracing import depends, may_keep
from metarl_jax.types import Key, Task

_NUM_TASKS = 4
_NUM_RESETS = 8
_NUM_STEPS = 256


def drawn_and_kept(
    env: Environment, sample: Callable[[Key], Task]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Finds what resets of one task draw, steps keep, and rewards or states follow.

    Args:
      env: the environment; it can be traced with the sampled params.
      sample: `(key) -> params`; not looked at any closer if these are traced.

    Returns:
      What two resets of one task drew, by the name of the state's leaf.
    """
    key = jax.random.key(0)

    def reset(key, task):
        _, state = env.reset_env(key, task)
        return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)

    def step(state, key_action, key, task):
        space = env.action_space(task)
        action = spaces.given(space, spaces.draw(key_action, space))
        _, new, reward, terminated, _ = env.step_env(key, state, action, task)
        new = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), new, state)
        return new, jnp.asarray(reward), jnp.asarray(terminated, bool)

    sampled = jax.make_jaxpr(sample, return_shape=True)(key)
    resets, state = jax.make_jaxpr(reset, return_shape=True)(key, sampled[1])
    steps = jax.make_jaxpr(step)(state, key, key, sampled[1]).jaxpr
    names = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(state)
    ]
    leaves = jax.tree.leaves(state)
    params = set(range(len(leaves) + 2, len(steps.invars)))

    def suspect(i):
        if not depends(resets.jaxpr, i, 0):
            return False
        # A vector may hold a goal beside a position.
        return leaves[i].shape or may_keep(steps, i, i, fixed=params)

    suspects = [i for i in range(len(leaves)) if suspect(i)]
    traced = [x for traced in (sampled[0], resets) for x in traced.consts]
    if not suspects or any(isinstance(x, Tracer) for x in traced):
        return {}
    drawn = _run(sample, reset, step)
    return {names[i]: drawn[i] for i in suspects if drawn.get(i)}


def _run(sample, reset, step) -> dict:
    """Runs every state beside one that another reset's kept parts are put in.

    Returns:
      Of the leaves with parts that are kept and followed, what two resets drew.
    """
    concretely = jax.ensure_compile_time_eval  # within another function's trace too
    with concretely():
        key = jax.random.key(0)
    lowered = jax.jit(partial(_walked, sample, reset, step)).lower(key)
    # Quickly, as it is called once.
    options: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
    with concretely():
        states, swapped, differs = lowered.compile(options)(key)
        if not np.any(differs):
            return {}
        pairs = zip(jax.tree.leaves(states), jax.tree.leaves(swapped), strict=True)
        return {i: _first_unequal(*pair) for i, pair in enumerate(pairs)}


def _walked(sample, reset, step, key) -> tuple[Any, Any, jax.Array]:
    """Returns states, the same with others' kept parts, and what comes to differ.

    All are of B resets, R of each task in turn.
    """
    key_tasks, key_resets, *keys = jax.random.split(key, 4)
    keys = tuple(jax.random.split(one, _NUM_STEPS) for one in keys)
    tasks = jax.vmap(sample)(jax.random.split(key_tasks, _NUM_TASKS))
    tasks = jax.tree.map(lambda x: jnp.repeat(x, _NUM_RESETS, axis=0), tasks)
    keys_resets = jax.random.split(key_resets, _NUM_RESETS)
    states = jax.vmap(reset)(jnp.tile(keys_resets, _NUM_TASKS), tasks)

    def of_next_reset(x):
        shape = _NUM_TASKS, _NUM_RESETS, *x.shape[1:]
        return jnp.roll(x.reshape(shape), -1, axis=1).reshape(x.shape)

    other = jax.tree.map(of_next_reset, states)
    step_all = jax.vmap(step, in_axes=(0, None, None, 0))
    tasks_of_both = _joined(tasks, tasks)

    def walk(first, second):
        """Which entries steps keep; whether equal ones or rewards come to differ."""
        shared = jax.tree.map(_equal, first, second)
        true = jnp.ones(len(keys_resets) * _NUM_TASKS, bool)

        def both(carry, keys):
            states, kept, alive, differs = carry
            new = step_all(states, *keys, tasks_of_both)
            one, two = _apart(new)
            same = jax.tree.map(_equal, first, one[0])
            unequal = jax.tree.map(
                lambda same, x, y: jnp.any(
                    same & ~_equal(x, y), axis=tuple(range(1, same.ndim))
                ),
                (shared, true, true),
                one,
                two,
            )
            differs |= alive & jnp.any(jnp.stack(jax.tree.leaves(unequal)), axis=0)
            kept = jax.tree.map(jnp.logical_and, kept, same)
            alive &= ~(one[2] | two[2])
            return (new[0], kept, alive, differs), None

        everything = jax.tree.map(lambda x: jnp.ones_like(x, bool), shared)
        carry = (_joined(first, second), everything, true, ~true)
        _, kept, _, differs = jax.lax.scan(both, carry, keys)[0]
        return kept, differs

    def swap(second, _):
        """Puts in what is kept; the first time, of states beside themselves."""
        kept, differs = walk(states, second)
        kept = jax.tree.map(lambda k: jnp.all(k, axis=0), kept)
        return jax.tree.map(jnp.where, kept, other, states), (second, differs)

    _, (seconds, differs) = jax.lax.scan(swap, states, length=2)
    return states, jax.tree.map(lambda x: x[1], seconds), differs[1]


def _joined(first: Any, second: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.concatenate((x, y)), first, second)


def _apart(joined: Any) -> tuple[Any, Any]:
    middle = len(jax.tree.leaves(joined)[0]) // 2
    return tuple(
        jax.tree.map(lambda x, part=part: x[part], joined)
        for part in (slice(middle), slice(middle, None))
    )


def _first_unequal(x, y) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the first two that differ, of arrays `[B, ...]`."""
    x, y = (np.asarray(_bits(one)) for one in (x, y))
    differ = np.flatnonzero(np.any(x != y, axis=tuple(range(1, x.ndim))))
    return (x[differ[0]], y[differ[0]]) if differ.size else None


def _bits(x: jax.Array) -> jax.Array:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(x) if is_key else x


def _equal(x: jax.Array, y: jax.Array) -> jax.Array:
    """Compares entries; NaN equals NaN, and a key is one entry."""
    if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
        return jnp.all(_bits(x) == _bits(y), axis=-1)
    return (x == y) | ((x != x) & (y != y))
