"""What a policy holds: the outputs of its layers, and its memory along a trial."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.rollout import remember
from metarl_jax.types import Memory, Observation, Params, Policy, Trajectory


def layer_outputs(
    policy: Policy, params: Params, memory: Memory, obs: Observation
) -> dict[str, jax.Array]:
    """Returns what each affine or convolutional layer puts out for one observation.

    Before the nonlinearity, through whatever wraps the flax modules.

    Args:
      policy: the policy.
      params: θ.
      memory: the policy's.
      obs: one observation.

    Returns:
      By the layer's name, `[D]`, in the order in which they are computed.
    """
    outputs: dict[str, jax.Array] = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        layers = (nn.Dense, nn.DenseGeneral, nn.Conv)
        if isinstance(context.module, layers) and context.method_name == "__call__":
            name = "/".join(context.module.path)
            while name in outputs:
                name += "'"
            outputs[name] = jnp.ravel(out)
        return out

    with nn.intercept_methods(record):
        policy.apply(params, memory, obs)
    return outputs


def along_trial(
    policy: Policy, params: Params, memory: Memory, steps: Trajectory
) -> tuple[jax.Array, jax.Array]:
    """Takes a policy through recorded steps and returns what its memory holds of them.

    What the heads read: the core's output of a `MemoryPolicy`, mean and log standard
    deviation of a `BeliefPolicy`'s belief; of a learner without a network its memory's
    numbers.

    Args:
      policy: one with memory.
      params: θ.
      memory: before the first step.
      steps: of one trial `[L, ...]`, without gaps (`metarl_jax.trials.stream`).

    Returns:
      `[L, F]` before each action, after the steps before it; and `[L]`, the entropy of
      the action's distribution in nats.
    """

    def step(memory, transition):
        read = []

        def record(call, args, kwargs, context):
            out = call(*args, **kwargs)
            at_core = context.module.path[-1:] in (("core",), ("readout",))
            if at_core and context.method_name == "__call__":
                read.append(out[-1] if isinstance(out, tuple) else out)
            return out

        with nn.intercept_methods(record):
            distribution, _, after = policy.apply(params, memory, transition.obs)
        held = read[-1] if read else _numbers(memory)
        entropy = distribution.entropy()
        after = remember(policy, after, transition)
        after = jax.tree.map(
            lambda a, b: jnp.where(transition.mask, a, b), after, memory
        )
        return after, (jnp.ravel(held), entropy)

    return jax.lax.scan(step, memory, steps)[1]


def attention(
    policy: Policy, params: Params, memory: Memory, steps: Trajectory
) -> jax.Array | None:
    """Returns where a transformer looks along a trial.

    Args:
      policy: a `MemoryPolicy`.
      params: θ.
      memory: at the start of a trial.
      steps: of one trial `[L, ...]`, without gaps.

    Returns:
      `[layers, heads, L, L]`: of the step of the row, the weight that it gives to the
      step of the column; rows sum to 1. None where the core does not attend.
    """
    if not isinstance(policy, nn.Module):
        return None
    module: Any = policy
    _, sown = module.apply(
        params, memory, steps, method="_unroll", mutable=["intermediates"]
    )
    leaves: Any = jax.tree_util.tree_leaves_with_path(sown)
    found = [leaf for path, leaf in leaves if "attention" in jax.tree_util.keystr(path)]
    if not found:
        return None
    return jnp.stack(found)[..., -steps.mask.shape[0] :]


def _numbers(tree: Any) -> jax.Array:
    """Returns all numbers of a memory but its keys."""
    leaves = [
        jnp.ravel(leaf).astype(jnp.float32)
        for leaf in jax.tree.leaves(tree)
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]
    return jnp.concatenate(leaves)
