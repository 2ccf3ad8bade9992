"""The devices of a run: a mesh that the tasks and the seeds are shared out over.

What is learned on a mesh is what is learned on one device but for the order of sums.
`metarl_jax.batching` shares them out.
"""

import math
import os
import reprlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from metarl_jax.batching import SEED_AXIS, TASK_AXIS
from metarl_jax.runs import machine

# The mesh of whoever leaves it to what pays.
AUTO = "auto"
# More devices of a CPU get the numbers of another process's.
MAX_CPU_DEVICES = 2**11


class Placement(NamedTuple):
    """Where arrays are. All None for the default device."""

    mesh: Mesh | None = None
    by_seed: NamedSharding | None = None  # the leading axis over the mesh's seeds
    everywhere: NamedSharding | None = None  # a copy on every device


def parse_mesh(mesh: str) -> dict[str, int]:
    """Reads the axes of a mesh and their sizes, such as `"tasks=4,seeds=2"`.

    Raises:
      ValueError: if it is not of that form.
    """
    if not isinstance(mesh, str):
        raise ValueError(
            f"mesh must be a string such as {TASK_AXIS}=4,{SEED_AXIS}=2, {AUTO} or "
            f"None; got {mesh!r}"
        )
    sizes: dict[str, int] = {}
    for part in mesh.split(","):
        name, _, size = part.partition("=")
        if name not in (TASK_AXIS, SEED_AXIS) or name in sizes:
            raise ValueError(
                f"mesh must give the axes {TASK_AXIS} and {SEED_AXIS} once at most, as "
                f"in {TASK_AXIS}=4,{SEED_AXIS}=2; got {name!r} in {mesh!r}"
            )
        if not size.isdecimal() or not size.strip("0"):
            raise ValueError(
                f"{name} of the mesh must be a whole number of at least 1; got {size!r}"
            )
        if len(size) > 9:
            raise ValueError(
                f"{name} of the mesh must be a number of devices that there can be; "
                f"got {reprlib.repr(size)}"
            )
        sizes[name] = int(size)
    return sizes


def described(mesh: str | None) -> dict[str, str | None]:
    """Returns what a run's record says of the devices of a mesh.

    Raises:
      ValueError: if `mesh` is neither None nor what `parse_mesh` reads.
    """
    count = 1 if mesh is None else math.prod(parse_mesh(mesh).values())
    return {"mesh": mesh, "device": machine.device_name(count)}


def divide_cpu(mesh: str, *, num_processes: int = 1) -> None:
    """Makes as many devices of the CPU as this process's part of a mesh needs.

    A mesh of `"auto"` may need one for each core.

    Only before JAX has looked for devices, and not where the user has said how many
    there are. Without effect on a machine with accelerators.

    Raises:
      ValueError: if `mesh` is not what `parse_mesh` reads, or has more devices than any
        machine.
    """
    if mesh == AUTO:
        num_devices = min(machine.usable_cores(), MAX_CPU_DEVICES)
    else:
        num_devices = math.prod(parse_mesh(mesh).values()) // num_processes
    if num_devices > MAX_CPU_DEVICES:
        raise ValueError(
            f"mesh {mesh} needs {num_devices} devices of each process; there are at "
            f"most {MAX_CPU_DEVICES}"
        )
    said = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if said or jax.config.jax_num_cpu_devices >= 0:  # pyright: ignore
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_devices)
    except RuntimeError:  # JAX has looked; `place` says what is missing
        return


def auto_mesh(device_counts: Sequence[int], *, num_seeds: int) -> str | None:
    """Chooses the mesh of a run that leaves it to what pays.

    Of a CPU as many devices as cores: seeds first, which send one another nothing, and
    their tasks over what is left. One device elsewhere, and of several processes.

    Args:
      device_counts: numbers of devices that tasks may be shared out over.
      num_seeds: S, seeds trained together.

    Returns:
      The mesh; None for one device.
    """
    if jax.default_backend() != "cpu" or jax.process_count() > 1:
        return None
    available = min(jax.device_count(), machine.usable_cores())
    seeds = max(n for n in range(1, available + 1) if num_seeds % n == 0)
    tasks = max([n for n in device_counts if n * seeds <= available], default=1)
    sizes = {TASK_AXIS: tasks, SEED_AXIS: seeds}
    return ",".join(f"{name}={n}" for name, n in sizes.items() if n > 1) or None


def place(mesh: str | None, *, num_seeds: int) -> Placement:
    """Chooses the devices of a run.

    Args:
      mesh: what `parse_mesh` reads; None for the default device.
      num_seeds: S, seeds trained together.

    Raises:
      ValueError: if `mesh` cannot be read, has more devices than there are or, with
        several processes, fewer, or has an axis of seeds that does not divide S.
    """
    num_processes, available = jax.process_count(), jax.devices()
    if mesh is None:
        if num_processes > 1:
            raise ValueError(
                f"{num_processes} processes need a mesh of their {len(available)} "
                f"devices, such as {TASK_AXIS}={len(available)}; got None"
            )
        return Placement()
    sizes = parse_mesh(mesh)
    if num_seeds % sizes.get(SEED_AXIS, 1):
        raise ValueError(
            f"{SEED_AXIS} of the mesh must divide num_seeds; got {sizes[SEED_AXIS]} "
            f"and {num_seeds}"
        )
    num_devices = math.prod(sizes.values())
    if num_devices > len(available):
        raise ValueError(
            f"mesh {mesh} needs {num_devices} devices; there are {len(available)} "
            f"({available[0].platform}; JAX_NUM_CPU_DEVICES={num_devices} makes as "
            f"many of a CPU, --mesh {TASK_AXIS}=1 takes one)"
        )
    if num_processes > 1 and num_devices < len(available):
        raise ValueError(
            f"the mesh must have all {len(available)} devices of the {num_processes} "
            f"processes; got {mesh}"
        )
    made = jax.make_mesh(
        tuple(sizes.values()),
        tuple(sizes),
        axis_types=(AxisType.Auto,) * len(sizes),
        devices=available[:num_devices],
    )
    everywhere = NamedSharding(made, PartitionSpec())
    if sizes.get(SEED_AXIS, 1) == 1:
        return Placement(made, everywhere, everywhere)
    return Placement(made, NamedSharding(made, PartitionSpec(SEED_AXIS)), everywhere)


def moved(tree: Any, sharding: NamedSharding | None) -> Any:
    """Returns arrays as a sharding has them; None leaves them where they are.

    By a program, as `jax.device_put` moves no keys between processes.
    """
    if sharding is None:
        return tree
    return jax.jit(lambda tree: tree, out_shardings=sharding)(tree)
