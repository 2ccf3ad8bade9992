"""The programs of a run, traced once: `init` and one meta-training step."""

import contextlib
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax import tracing
from metarl_jax.batching import map_seeds
from metarl_jax.runs import (
    devices,
)
from metarl_jax.runs.experiment import (
    Evaluation as Evaluation,
)
from metarl_jax.runs.experiment import (
    Experiment as Experiment,
)
from metarl_jax.runs.experiment import (
    seed_keys,
)
from metarl_jax.types import ENVIRONMENT_STEP, MetaAlgorithm, State


class Lowered(NamedTuple):
    """A traced run: what is left to do is to compile and to start it."""

    init: jax.stages.Lowered
    step: jax.stages.Lowered
    template: State  # shapes and dtypes
    environment_steps: int | None  # of a seed in a step; None where it is not known
    key_init: jax.Array
    key_steps: jax.Array


def lower(
    algorithm: MetaAlgorithm,
    seed: int,
    num_seeds: int,
    seed_group_size: int | None,
    placement: devices.Placement,
) -> Lowered:
    """Traces `init` and one meta-training step, once each, and checks what they make.

    Raises:
      ValueError: if the step changes the state's structure, shapes or dtypes, its info
        lacks what training needs, or the mesh does not fit the number of tasks.
    """

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
    mesh, by_seed, everywhere = placement
    keys = devices.moved(seed_keys(seed, num_seeds), by_seed)
    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        lowered_init = jax.jit(init, out_shardings=by_seed).lower(keys[0])
        template = _shapes(lowered_init.out_info)
        state = jax.tree.map(lambda x: x.update(sharding=by_seed), template)
        traced = jax.jit(step, out_shardings=(by_seed, everywhere)).trace(
            keys[1], np.int32(0), state
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
    return Lowered(lowered_init, lowered_step, template, per_seed, *keys)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
