"""Programs that hold a policy or its rule of adaptation: StableHLO and ONNX."""

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.export import arrays, describing, networks
from metarl_jax.types import Agent, Policy, Trajectory

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def policy_stablehlo(
    policy: Policy, agent: Agent, obs: jax.ShapeDtypeStruct, platforms: Sequence[str]
) -> bytes:
    """Exports how an agent acts: `(weights, memory, obs) -> (outputs, memory)`.

    All by name (`metarl_jax.export.arrays.named`). Memory, observations `[B, ...]` and
    outputs are of any B; the weights are those of one agent.

    Args:
      policy: how it acts.
      agent: of whose shapes.
      obs: the shape of one observation.
      platforms: of the devices that the program is for.
    """

    def one(weights, memory, obs):
        whole = arrays.restored(agent, weights)
        held = arrays.restored(agent.memory, memory)
        found, _, held = policy.apply(whole.params, held, obs)
        return describing.outputs(found), arrays.named(held)

    (batch,) = jax.export.symbolic_shape("batch")

    def batched(leaf):
        return jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype)

    shapes = jax.eval_shape(arrays.named, agent)
    memory = jax.eval_shape(arrays.named, agent.memory)
    program = jax.jit(jax.vmap(one, in_axes=(None, 0, 0)))
    exported = jax.export.export(program, platforms=platforms)(
        shapes, jax.tree.map(batched, memory), batched(obs)
    )
    return bytes(exported.serialize())


def adaptation_stablehlo(
    adapt: Callable[..., Agent],
    agent: Agent,
    trajectories: Trajectory,
    platforms: Sequence[str],
) -> bytes | None:
    """Exports one adaptation step: `(key data, agent, trajectories) -> agent`.

    All by name; None where it changes nothing: what adapts is the memory, in acting.

    Args:
      adapt: the rule.
      agent: of whose shapes.
      trajectories: `[E, T, ...]` shapes of the data.
      platforms: of the devices that the program is for.
    """

    def rule(key, weights, data):
        adapted = adapt(
            jax.random.wrap_key_data(key),
            arrays.restored(agent, weights),
            Trajectory(**data),
        )
        return arrays.named(adapted)

    key, num_leaves = jax.random.key(0), len(jax.tree.leaves(agent))
    traced = jax.make_jaxpr(adapt)(key, agent, trajectories).jaxpr
    if traced.outvars == traced.invars[1 : 1 + num_leaves]:
        return None
    shapes = jax.eval_shape(arrays.named, agent)
    inputs = jax.ShapeDtypeStruct((2,), jnp.uint32), shapes, trajectories._asdict()
    return bytes(
        jax.export.export(jax.jit(rule), platforms=platforms)(*inputs).serialize()
    )


def policy_onnx(
    network: Mapping[str, Any],
    weights: Mapping[str, Any],
    memory: Mapping[str, Any],
    outputs: Sequence[str],
    obs: jax.ShapeDtypeStruct,
) -> bytes:
    """Exports a network with its weights: `obs`, `memory.*` to outputs, `next.*`.

    What of the memory the network leaves as it is has no `next.*`; what it does not
    read is no input.

    Args:
      network: as `metarl_jax.export.describing.network` has it.
      weights: by name.
      memory: shapes by name.
      outputs: what the network puts out.
      obs: the shape of one observation.

    Raises:
      ValueError: if what converts is not installed, or what it makes cannot be read,
        as of convolutions by jax2onnx 0.13.
    """
    try:
        # It speaks of shapes that it infers itself and of parts that it does without.
        for name in ("jax2onnx", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        to_onnx = importlib.import_module("jax2onnx").to_onnx
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ValueError(
            f'the form onnx needs {error.name}: pip install "metarl-jax[onnx]"'
        ) from None
    # What only passes through, as the last reward, cannot be an output too.
    zeros = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in memory.items()}
    new = networks.forward(network, weights, zeros, np.zeros(obs.shape, obs.dtype))[1]
    changed = [name for name in memory if new[name] is not zeros[name]]
    constants = {name: jnp.asarray(array) for name, array in weights.items()}

    def program(obs, *held):
        found, new = networks.forward(
            network, constants, dict(zip(memory, held, strict=True)), obs, jnp
        )
        return (*(found[name] for name in outputs), *(new[name] for name in changed))

    (batch,) = jax.export.symbolic_shape("B")
    shapes = [
        jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype)
        for leaf in (obs, *memory.values())
    ]
    with warnings.catch_warnings():
        # It asks for float64 on the way, and gets float32.
        warnings.filterwarnings("ignore", "Explicitly requested dtype float64")
        model = to_onnx(
            program,
            inputs=shapes,
            model_name="policy",
            input_names=["obs", *(f"memory.{name}" for name in memory)],
            output_names=[*outputs, *(f"next.{name}" for name in changed)],
        )
    written = model.SerializeToString()
    try:
        runtime.InferenceSession(written)
    except Exception as error:  # of the runtime's own types
        raise ValueError(
            "the form onnx needs a network that jax2onnx converts into what ONNX "
            f"Runtime reads; of this one it says: {error}"
        ) from error
    return written
