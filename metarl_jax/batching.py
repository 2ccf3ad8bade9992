"""How a function of one task, or of one seed, is run over a batch of them.

Under one `vmap` the whole batch moves through every operation together, which fills an
accelerator. In groups under a scan a group's activations stay in a CPU's cache and only
one group's are alive at a time. On several devices each has an equal share of the
batch, and what is done to the share is one of these two: so it is wherever a mesh of
devices with an axis `"tasks"` has been set, as training does,

    with jax.set_mesh(jax.make_mesh((4,), ("tasks",), axis_types=(AxisType.Auto,))):
        jax.jit(algorithm.step)(key, state)

and the numbers are those of one device but for the order of sums. The algorithms are
written for one task and leave the choice to the functions here. Seeds are run likewise,
over an axis `"seeds"`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

TASK_AXIS = "tasks"
SEED_AXIS = "seeds"


def map_tasks(
    function: Callable, *, group_size: int | None = None, learned: Any = ()
) -> Callable:
    """Maps a function of one task over the leading axis of its arguments.

    Args:
      function: `(*task_arrays) -> pytree`, for one task.
      group_size: tasks under one `vmap`; the groups follow one another in a scan.
        None: all tasks of a device at once. Need not divide the number of tasks.
      learned: parameters that all tasks share and a gradient is taken of, which the
        function is given before the arrays of its task, unless there are none. Of
        several devices each sends one sum of what its tasks make of that gradient; of
        parameters that the function closes over, a sum in every step of its loops.

    Returns:
      `(*batched_arrays) -> pytree` with outputs stacked along the leading axis.

    Raises:
      ValueError: when called, if the tasks cannot be shared out among the devices.
    """
    if not jax.tree.leaves(learned):
        return _shared_out(_in_groups(function, group_size), TASK_AXIS)

    def of_share(learned, *args):
        return _in_groups(partial(function, learned), group_size)(*args)

    return _shared_out(of_share, TASK_AXIS, learned)


def map_seeds(function: Callable, *, group_size: int | None = None) -> Callable:
    """Maps a function of one seed over the leading axis of its arguments.

    Args:
      function: `(*seed_arrays) -> pytree`, for one seed; it may map over tasks.
      group_size: as in `map_tasks`.

    Returns:
      `(*batched_arrays) -> pytree` with outputs stacked along the leading axis.

    Raises:
      ValueError: when called, if the seeds cannot be shared out among the devices.
    """
    return _shared_out(_in_groups(function, group_size), SEED_AXIS)


def mean_over_tasks(function: Callable, *, group_size: int | None = None) -> Callable:
    """Averages a function of one task over the leading axis of its arguments.

    Used on a *gradient*, each group's is accumulated as soon as it is known: nothing of
    a task is kept once its turn is over, where the gradient of a mean would keep
    everything until the backward pass. Of several devices each sends one mean.

    Args:
      function: `(*task_arrays) -> pytree of floats`, for one task.
      group_size: as in `map_tasks`; must divide the number of tasks of a device, unless
        it has no more than that.

    Returns:
      `(*batched_arrays) -> pytree`, the mean over tasks.

    Raises:
      ValueError: when called, if `group_size` does not divide the tasks of a device, or
        they cannot be shared out among the devices.
    """

    def mean(*args):
        if group_size is None:
            outputs = jax.vmap(function)(*args)
            return jax.tree.map(lambda x: jnp.mean(x, axis=0), outputs)
        num_tasks = _batch_size(args)
        size = min(group_size, num_tasks)
        num_groups, remainder = divmod(num_tasks, size)
        if remainder:
            raise ValueError(
                "group_size must divide the number of tasks of a device; got "
                f"{group_size} and {num_tasks} tasks"
            )

        def group(*xs):
            if size == 1:
                return function(*xs)
            outputs = jax.vmap(function)(*xs)
            return jax.tree.map(lambda x: jnp.sum(x, axis=0), outputs)

        if size > 1:
            args = jax.tree.map(
                lambda x: x.reshape(num_groups, size, *x.shape[1:]), args
            )
        return jax.tree.map(lambda x: x / num_tasks, _sum(group, args))

    rows = _rows(mean)  # the shares are equal, and so is their weight
    return lambda *args: jax.tree.map(lambda x: jnp.mean(x, axis=0), rows(*args))


def sum_over_groups(function: Callable, *, group_size: int | None) -> Callable:
    """Adds up what a function of a group of tasks returns, group after group.

    As for `mean_over_tasks`, what a gradient needs of a group is dropped once its turn
    is over, and of several devices each sends one sum. The function has a whole group
    of a device, to be mapped over by `map_tasks`: where the gradient is of shared
    parameters it is one matrix product for all of a group.

    Args:
      function: `(*batched_arrays) -> pytree of floats`.
      group_size: tasks of a group; None: all of a device are one, as they are where
        there are fewer than two groups. What is left over makes a group of its own.

    Returns:
      `(*batched_arrays) -> pytree`, the sum over groups and devices.
    """

    def summed(*args):
        num_tasks = _batch_size(args)
        if group_size is None or num_tasks < 2 * group_size:
            return function(*args)
        num_groups = num_tasks // group_size
        whole = num_groups * group_size
        groups = jax.tree.map(
            lambda x: x[:whole].reshape(num_groups, group_size, *x.shape[1:]), args
        )
        total = _sum(function, groups)
        if whole == num_tasks:
            return total
        rest = function(*jax.tree.map(lambda x: x[whole:], args))
        return jax.tree.map(jnp.add, total, rest)

    rows = _rows(summed)
    return lambda *args: jax.tree.map(lambda x: jnp.sum(x, axis=0), rows(*args))


def _rows(function: Callable) -> Callable:
    """Maps a function of a device's tasks to a row of its own from each device."""
    return _shared_out(
        lambda *args: jax.tree.map(lambda x: x[None], function(*args)), TASK_AXIS
    )


def _sum(function: Callable, args: tuple) -> Any:
    """Adds up what a function makes of each of the leading axis, one by one."""
    first = jax.tree.map(lambda x: x[0], args)
    zeros = jax.tree.map(
        lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, *first)
    )

    def accumulate(total, xs):
        return jax.tree.map(jnp.add, total, function(*xs)), None

    return jax.lax.scan(accumulate, zeros, args)[0]


def _in_groups(function: Callable, group_size: int | None) -> Callable:
    """Maps over the leading axis on one device."""

    def mapped(*args):
        if group_size is None:
            return jax.vmap(function)(*args)
        if group_size == 1:  # a group's axis would be one in every matrix product
            return jax.lax.map(lambda xs: function(*xs), args)
        size = min(group_size, _batch_size(args))
        num_groups, remainder = divmod(_batch_size(args), size)
        whole = num_groups * size
        groups = jax.tree.map(
            lambda x: x[:whole].reshape(num_groups, size, *x.shape[1:]), args
        )
        outputs = jax.lax.map(lambda xs: jax.vmap(function)(*xs), groups)
        outputs = jax.tree.map(lambda x: x.reshape(whole, *x.shape[2:]), outputs)
        if not remainder:
            return outputs
        rest = jax.vmap(function)(*jax.tree.map(lambda x: x[whole:], args))
        return jax.tree.map(lambda *x: jnp.concatenate(x), outputs, rest)

    return mapped


def _shared_out(function: Callable, axis: str, *copied: Any) -> Callable:
    """Lets every device along an axis of the mesh run a function on its share.

    What is copied comes before that, and is a device's own.

    The batch `[N, ...]` becomes `[devices, N / devices, ...]`, mapped over the first
    axis, which is laid out over the mesh: a scan over tasks then runs within a device
    and not across them. `jax.shard_map` would do the same, but for functions that close
    over arrays, as those of the algorithms do, it has yet to learn it.
    """

    def shared(*args):
        mesh = jax.sharding.get_abstract_mesh()
        num_devices, size = mesh.shape.get(axis, 1), _batch_size(args)
        if num_devices == 1 or _is_shared_out(axis):
            return function(*copied, *args)
        if size % num_devices:
            raise ValueError(
                f"the axis {axis} of the mesh must divide the number of {axis} in a "
                f"batch; got {num_devices} devices and {size} {axis}"
            )
        over_devices = partial(
            jax.lax.with_sharding_constraint, shardings=PartitionSpec(axis)
        )

        def share(x):
            shape = (num_devices, size // num_devices, *x.shape[1:])
            return over_devices(x.reshape(shape))

        def gather(x):
            return over_devices(x).reshape(x.shape[0] * x.shape[1], *x.shape[2:])

        def copy(x):
            return over_devices(jnp.broadcast_to(x, (num_devices, *jnp.shape(x))))

        over = jax.vmap(function, axis_name=axis, spmd_axis_name=axis)
        outputs = over(*jax.tree.map(copy, copied), *jax.tree.map(share, args))
        return jax.tree.map(gather, outputs)

    return shared


def _is_shared_out(axis: str) -> bool:
    """Tells whether what is being traced is a device's share already."""
    try:
        jax.lax.axis_size(axis)
    except NameError:
        return False
    return True


def _batch_size(args: tuple) -> int:
    return jax.tree.leaves(args)[0].shape[0]
