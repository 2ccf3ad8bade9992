"""How a function of one task is run over a batch of tasks.

Under one `vmap` the whole batch moves through every operation together, which fills an
accelerator. In groups under a scan a group's activations stay in a CPU's cache and only
one group's are alive at a time. The algorithms are written for one task and leave the
choice to the two functions here.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def map_tasks(function: Callable, *, group_size: int | None = None) -> Callable:
    """Maps a function of one task over the leading axis of its arguments.

    Args:
      function: `(*task_arrays) -> pytree`, for one task.
      group_size: tasks under one `vmap`; the groups follow one another in a scan.
        None: all tasks at once. Need not divide the number of tasks.

    Returns:
      `(*batched_arrays) -> pytree` with outputs stacked along the leading axis.
    """

    def mapped(*args):
        if group_size is None:
            return jax.vmap(function)(*args)
        # A batch_size of 1 would still add a batch axis to every matrix product.
        batch_size = None if group_size == 1 else group_size
        return jax.lax.map(lambda xs: function(*xs), args, batch_size=batch_size)

    return mapped


def mean_over_tasks(function: Callable, *, group_size: int | None = None) -> Callable:
    """Averages a function of one task over the leading axis of its arguments.

    Used on a *gradient*, each group's is accumulated as soon as it is known: nothing of
    a task is kept once its turn is over, where the gradient of a mean would keep
    everything until the backward pass.

    Args:
      function: `(*task_arrays) -> pytree of floats`, for one task.
      group_size: as in `map_tasks`; must divide the number of tasks.

    Returns:
      `(*batched_arrays) -> pytree`, the mean over tasks.
    """

    def averaged(*args):
        if group_size is None:
            outputs = jax.vmap(function)(*args)
            return jax.tree.map(lambda x: jnp.mean(x, axis=0), outputs)
        num_tasks = jax.tree.leaves(args)[0].shape[0]
        num_groups, remainder = divmod(num_tasks, group_size)
        if remainder:
            raise ValueError(
                f"group_size must divide the number of tasks; got {group_size} and "
                f"{num_tasks} tasks"
            )

        def group(xs):
            if group_size == 1:
                return function(*xs)
            outputs = jax.vmap(function)(*xs)
            return jax.tree.map(lambda x: jnp.sum(x, axis=0), outputs)

        def accumulate(total, xs):
            return jax.tree.map(jnp.add, total, group(xs)), None

        if group_size > 1:
            args = jax.tree.map(
                lambda x: x.reshape(num_groups, group_size, *x.shape[1:]), args
            )
        first = jax.tree.map(lambda x: x[0], args)
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(group, first)
        )
        total, _ = jax.lax.scan(accumulate, zeros, args)
        return jax.tree.map(lambda x: x / num_tasks, total)

    return averaged
