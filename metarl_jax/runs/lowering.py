"""The programs of a run, traced once: `init` and one meta-training step."""

import contextlib
import math
import re
import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax import tracing
from metarl_jax.batching import TASK_AXIS, map_seeds
from metarl_jax.runs import devices
from metarl_jax.runs.experiment import Experiment, seed_keys
from metarl_jax.types import ENVIRONMENT_STEP, MetaAlgorithm, State

# What is called for matrices, and the shape of the first of them.
_FACTORISES = re.compile(r"custom_call @(lapack_\w+).* : \(tensor<([\dx]+)x\w+>")
_CALLS_THE_HOST = re.compile(r"custom_call @\w*python_cpu_callback")


class Lowered(NamedTuple):
    """A traced run: what is left to do is to compile and to start it."""

    init: jax.stages.Lowered
    step: jax.stages.Lowered
    template: State  # shapes and dtypes
    environment_steps: int | None  # of a seed in a step; None where it is not known
    key_init: jax.Array
    key_steps: jax.Array
    mesh: str | None
    placement: devices.Placement


def lower(
    experiment: Experiment,
    seed: int,
    num_seeds: int,
    seed_group_size: int | None,
    mesh: str | None,
) -> Lowered:
    """Traces `init` and one meta-training step, once each, and checks what they make.

    A mesh of `"auto"` is chosen by `devices.auto_mesh`, and is one device after all for
    what cannot be shared out, calls the host, or factorises many matrices at once.

    Raises:
      ValueError: if the step changes the state's structure, shapes or dtypes, its info
        lacks what training needs, or the mesh does not fit the devices, the seeds or
        the tasks.

    Warns:
      UserWarning: if a mesh that is asked for may never come to an end.
    """
    algorithm = experiment.algorithm
    on = partial(_lower, algorithm, seed, num_seeds, seed_group_size)
    if mesh != devices.AUTO:
        lowered = on(mesh)
        over = lowered.placement.mesh
        if over is not None and over.size > 1 and jax.default_backend() == "cpu":
            _warn_of_waiting(lowered)
        return lowered
    mesh = devices.auto_mesh(experiment.device_counts, num_seeds=num_seeds)
    if mesh is not None:
        # What is wrong on one device too is said there.
        with contextlib.suppress(Exception):
            shared = on(mesh)
            calls_host = _CALLS_THE_HOST.search(shared.step.as_text())
            if not calls_host and not _factorised_at_once(shared):
                return shared
    return on(None)


def _lower(
    algorithm: MetaAlgorithm,
    seed: int,
    num_seeds: int,
    seed_group_size: int | None,
    mesh: str | None,
) -> Lowered:
    def init(key):
        return algorithm.init(key)

    def one_step(i, key, state):
        return algorithm.step(jax.random.fold_in(key, i), state)

    def step(key, i, state):
        if num_seeds == 1:
            return one_step(i, key, state)
        return map_seeds(partial(one_step, i), group_size=seed_group_size)(key, state)

    if num_seeds > 1:
        init = jax.vmap(init)
        if seed_group_size is None and jax.default_backend() == "cpu":
            seed_group_size = 1
    placement = devices.place(mesh, num_seeds=num_seeds)
    shared_over, by_seed, everywhere = placement
    key_init, key_steps = devices.moved(seed_keys(seed, num_seeds), by_seed)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(shared_over):
        lowered_init = jax.jit(init, out_shardings=by_seed).lower(key_init)
        template = _shapes(lowered_init.out_info)
        state = jax.tree.map(lambda x: x.update(sharding=by_seed), template)
        traced = jax.jit(step, out_shardings=(by_seed, everywhere)).trace(
            key_steps, np.int32(0), state
        )
        lowered_step = traced.lower()
    steps = tracing.count_named(traced.jaxpr, ENVIRONMENT_STEP)
    new_state, info = _shapes(lowered_step.out_info)
    if new_state != template:
        raise ValueError(
            "algorithm.step must return a state of the structure, shapes and dtypes "
            f"that algorithm.init makes; got {new_state} from {template}"
        )
    for field in ("return_before", "return_after", "skipped"):
        if not hasattr(info, field):
            raise ValueError(
                f"the info of algorithm.step must have {field}; got {info}"
            )
    per_seed = steps // num_seeds if steps else None
    return Lowered(
        lowered_init,
        lowered_step,
        template,
        per_seed,
        key_init,
        key_steps,
        mesh,
        placement,
    )


def _warn_of_waiting(lowered: Lowered) -> None:
    factorised = _factorised_at_once(lowered)
    if factorised:
        warnings.warn(
            f"many matrices are factorised at once ({factorised}), over which devices "
            f"of one CPU may wait for one another for ever; got {lowered.mesh}, and "
            f"{TASK_AXIS}=1 never does",
            stacklevel=4,
        )


def _factorised_at_once(lowered: Lowered) -> str | None:
    """Returns a call that factorises several matrices, if there is one.

    See `metarl_jax.linear_algebra`.
    """
    for program in (lowered.init, lowered.step):
        for name, shape in _FACTORISES.findall(program.as_text()):
            if math.prod(map(int, shape.split("x")[:-2])) > 1:
                return f"{name} of {shape}"
    return None


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
