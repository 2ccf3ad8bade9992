"""How a function of one task is run over a batch of tasks.

Under one `vmap` the whole batch moves through every operation together, which fills an
accelerator. In groups under a scan a group's activations stay in a CPU's cache and only
one group's are alive at a time. On several devices each has an equal share of the
batch, and what is done to the share is one of these two: so it is wherever a mesh of
devices with an axis `"tasks"` has been set, as training does,

    with jax.set_mesh(jax.make_mesh((4,), ("tasks",), axis_types=(AxisType.Auto,))):
        jax.jit(algorithm.step)(key, state)

and the numbers are those of one device but for the order of sums. The algorithms are
written for one task and leave the choice to the functions here.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

TASK_AXIS = "tasks"


def map_tasks(function: Callable, *, group_size: int | None = None) -> Callable:
    """Maps a function of one task over the leading axis of its arguments.

    Args:
      function: `(*task_arrays) -> pytree`, for one task.
      group_size: tasks under one `vmap`; the groups follow one another in a scan.
        None: all tasks of a device at once. Need not divide the number of tasks.

    Returns:
      `(*batched_arrays) -> pytree` with outputs stacked along the leading axis.

    Raises:
      ValueError: when called, if the tasks cannot be shared out among the devices.
    """

    def mapped(*args):
        if group_size is None:
            return jax.vmap(function)(*args)
        # A batch_size of 1 would still add a batch axis to every matrix product.
        batch_size = None if group_size == 1 else group_size
        return jax.lax.map(lambda xs: function(*xs), args, batch_size=batch_size)

    return _shared_out(mapped)


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
        num_tasks = _num_tasks(args)
        size = min(group_size, num_tasks)
        num_groups, remainder = divmod(num_tasks, size)
        if remainder:
            raise ValueError(
                "group_size must divide the number of tasks of a device; got "
                f"{group_size} and {num_tasks} tasks"
            )

        def group(xs):
            if size == 1:
                return function(*xs)
            outputs = jax.vmap(function)(*xs)
            return jax.tree.map(lambda x: jnp.sum(x, axis=0), outputs)

        def accumulate(total, xs):
            return jax.tree.map(jnp.add, total, group(xs)), None

        if size > 1:
            args = jax.tree.map(
                lambda x: x.reshape(num_groups, size, *x.shape[1:]), args
            )
        first = jax.tree.map(lambda x: x[0], args)
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(group, first)
        )
        total, _ = jax.lax.scan(accumulate, zeros, args)
        return jax.tree.map(lambda x: x / num_tasks, total)

    # One row of means from each device; the shares are equal, and so is their weight.
    rows = _shared_out(lambda *args: jax.tree.map(lambda x: x[None], mean(*args)))
    return lambda *args: jax.tree.map(lambda x: jnp.mean(x, axis=0), rows(*args))


def _shared_out(function: Callable) -> Callable:
    """Lets every device of the mesh run a function on its share of the batch.

    The batch `[N, ...]` becomes `[devices, N / devices, ...]`, mapped over the first
    axis, which is laid out over the mesh: a scan over tasks then runs within a device
    and not across them. `jax.shard_map` would do the same, but for functions that close
    over arrays, as those of the algorithms do, it has yet to learn it.
    """

    def shared(*args):
        mesh = jax.sharding.get_abstract_mesh()
        num_devices, num_tasks = mesh.shape.get(TASK_AXIS, 1), _num_tasks(args)
        if num_devices == 1 or _is_shared_out():
            return function(*args)
        if num_tasks % num_devices:
            raise ValueError(
                f"the axis {TASK_AXIS} of the mesh must divide the number of tasks in "
                f"a batch; got {num_devices} devices and {num_tasks} tasks"
            )
        over_devices = partial(
            jax.lax.with_sharding_constraint, shardings=PartitionSpec(TASK_AXIS)
        )

        def share(x):
            return over_devices(x.reshape(num_devices, -1, *x.shape[1:]))

        def gather(x):
            return over_devices(x).reshape(-1, *x.shape[2:])

        outputs = jax.vmap(function, axis_name=TASK_AXIS)(*jax.tree.map(share, args))
        return jax.tree.map(gather, outputs)

    return shared


def _is_shared_out() -> bool:
    """Tells whether what is being traced is a device's share already."""
    try:
        jax.lax.axis_size(TASK_AXIS)
    except NameError:
        return False
    return True


def _num_tasks(args: tuple) -> int:
    return jax.tree.leaves(args)[0].shape[0]
