"""Several processes that train one run together, each on its own devices.

All of them go through the same steps in the same order, or they would wait for one
another without end: what one of them finds out alone, all are told before they act.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metarl_jax.runs import addresses

_ANSWER_BYTES = 2**14
# For process 0 to be there when another looks for it.
CONNECT_SECONDS = 45.0


def join(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Joins the other processes of a run, before JAX has looked for devices.

    Args:
      coordinator: `host:port` at which process 0 can be reached, or `"auto"` where
        SLURM, Open MPI, Kubernetes or a TPU pod has started the processes and says
        what else is not given; None for one process alone.
      num_processes: how many there are.
      process_id: which this is, from 0.

    Raises:
      ValueError: if something is missing or out of range, or nobody answers at the
        coordinator's address within `CONNECT_SECONDS`.
    """
    given = {"num_processes": num_processes, "process_id": process_id}
    if coordinator is None:
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} needs a coordinator; got {value} and none")
        return
    if coordinator != "auto":
        for name, value in given.items():
            if value is None:
                raise ValueError(f"coordinator {coordinator} needs {name}; got None")
        addresses.parse(coordinator, name="coordinator")
    if num_processes is not None and not 1 <= num_processes < 2**31:
        raise ValueError(
            f"num_processes must be at least 1 and an index; got {num_processes}"
        )
    if process_id is not None and not 0 <= process_id < (num_processes or 2**31):
        raise ValueError(
            f"process_id must be at least 0 and below num_processes; got {process_id} "
            f"of {num_processes}"
        )
    if coordinator != "auto":
        # JAX would wait for minutes and then end the process where it stands.
        alone = contextlib.nullcontext()
        if process_id == 0:
            port = addresses.parse(coordinator, name="coordinator")[1]
            alone = addresses.listening(port, name="the coordinator")
        with alone:
            addresses.wait_for(coordinator, name="coordinator", seconds=CONNECT_SECONDS)
    try:
        jax.distributed.initialize(
            None if coordinator == "auto" else coordinator, num_processes, process_id
        )
    except ValueError as error:
        raise ValueError(
            "coordinator auto needs SLURM, Open MPI, Kubernetes or a TPU pod to say "
            f"what the processes are; {error}"
        ) from None


def is_first() -> bool:
    """Tells whether this is the process that writes files and speaks."""
    return jax.process_index() == 0


def on_first(function: Callable[[], Any]) -> Any:
    """Calls a function in the first process and tells all what came of it.

    Args:
      function: touches files; what it returns can be written as JSON.

    Returns:
      What it returned.

    Raises:
      ValueError: in every process, if the function raised one or could not write.
    """
    if jax.process_count() == 1:
        return function()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer["value"] = function()
        except (ValueError, OSError) as error:
            answer["error"] = str(error)
    text = json.dumps(answer).encode().ljust(_ANSWER_BYTES)
    told = multihost_utils.broadcast_one_to_all(np.frombuffer(text, np.uint8))
    answer = json.loads(bytes(np.asarray(told)))
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer["value"]


def agreement() -> Callable[[bool], Any]:
    """Makes a function that asks all processes whether one of them wants something.

    Each call of it in one process belongs to the same call in every other, and is
    answered when the devices have come to it: it waits in their queues like any other
    program, so that asking costs no time.

    Returns:
      `(bool) -> []`, true if it was called with True anywhere.
    """
    if jax.process_count() == 1:
        return bool
    devices = [
        [device for device in jax.devices() if device.process_index == i]
        for i in range(jax.process_count())
    ]
    mesh = Mesh(np.array(devices), ("processes", "local"))
    by_process = NamedSharding(mesh, PartitionSpec("processes"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    anyone = jax.jit(jnp.any, out_shardings=everywhere)

    def ask(wish):
        wishes = jax.make_array_from_process_local_data(by_process, np.array([wish]))
        return anyone(wishes)

    return ask
