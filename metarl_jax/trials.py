"""A trial as one stream of steps, from its first episode to its last.

Memory, discounting and advantages know no episode ends inside a trial: what an action
teaches pays in later episodes (Duan et al. 2016, arXiv 1611.02779).
"""

import jax
import jax.numpy as jnp

from metarl_jax import returns
from metarl_jax.rollout import remember
from metarl_jax.types import Distribution, Memory, Params, Policy, Trajectory


def stream(trajectories: Trajectory) -> Trajectory:
    """Joins the episodes of one trial, without the gaps that early ends leave.

    Args:
      trajectories: `[E, T, ...]`, in the order of acting.

    Returns:
      `[L, ...]`, L = E T: first the steps that were taken, in order, then the padding.
      So the step before a step is the one that the policy remembers, and what looks
      back only is never reached by padding.
    """
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectories)
    order = jnp.argsort(~flat.mask, stable=True)
    return jax.tree.map(lambda x: x[order], flat)


def replay(
    policy: Policy, params: Params, memory: Memory | None, steps: Trajectory
) -> tuple[Distribution, jax.Array]:
    """Takes a policy through recorded steps; differentiable in the parameters.

    What `policy.apply` and `observe` make of them one after the other, by the policy's
    own `unroll` where it has a faster way.

    Args:
      policy: the policy.
      params: θ.
      memory: before the first step; None at the start of a trial, from where some
        policies have an even faster way.
      steps: `[L, ...]`, without gaps (`stream`).

    Returns:
      The distributions over actions and the values, `[L]`.
    """
    unroll = getattr(policy, "unroll", None)
    if unroll is not None:
        return unroll(params, memory, steps)
    memory = policy.initial_memory() if memory is None else memory
    if not jax.tree.leaves(memory):
        return policy.apply(params, memory, steps.obs)[:2]

    def step(memory, transition):
        distribution, value, memory = policy.apply(params, memory, transition.obs)
        return remember(policy, memory, transition), (distribution, value)

    return jax.lax.scan(step, memory, steps)[1]


def advantages(
    steps: Trajectory,
    value: jax.Array,
    *,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
    num_exploration_episodes: int = 0,
) -> jax.Array:
    """Computes generalised advantages across the episode ends of one trial.

    The objective is the return within the trial: γ and λ count steps of the trial, and
    nothing is bootstrapped after its last one.

    Args:
      steps: `[L, ...]`, without gaps (`stream`).
      value: `[L]`, of the memory and observation that the step was taken from.
      discount: γ.
      gae_lambda: λ.
      num_exploration_episodes: the rewards of the first this many episodes are left
        out of the objective (Stadie et al. 2018, arXiv 1803.01118).

    Returns:
      `[L]` advantages; what stands on the padding means nothing.
    """
    last = steps.mask & ~jnp.append(steps.mask[1:], False)
    ended = steps.terminated | steps.truncated
    episode = jnp.cumsum(ended) - ended.astype(int)
    return returns.generalised_advantages(
        jnp.where(episode >= num_exploration_episodes, steps.reward, 0.0),
        value,
        jnp.append(value[1:], 0.0),
        terminated=last,
        truncated=last,
        discount=discount,
        gae_lambda=gae_lambda,
    )
