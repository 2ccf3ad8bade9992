"""One task's episodes as data for a policy gradient, and a surrogate's mean over them.

For policies without memory, whose steps can be evaluated in any order.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import returns, updates
from metarl_jax.surrogates import Surrogate
from metarl_jax.types import Distribution, Key, Params, Policy, Trajectory


class Batch(NamedTuple):
    """One task's episodes, ready for a surrogate. Constants.

    As is usual the advantage carries no γ^t, so with γ < 1 surrogates that read it
    weight late steps more than the discounted return does; the reward, which `dice`
    alone reads, carries it.
    """

    obs: Any  # [E, T, ...]
    action: jax.Array  # [E, T, ...]
    log_prob: jax.Array  # [E, T] of the policy that acted
    reward: jax.Array  # [E, T] γ^t r_t, divided by the advantages' deviation
    advantage: jax.Array  # [E, T] mean 0 and standard deviation 1 over valid steps
    mask: jax.Array  # [E, T] bool


def advantages(
    trajectories: Trajectory,
    *,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Computes advantages from the data of one task alone.

    The value is a linear feature baseline fitted to the same episodes. The objective is
    the return within the horizon, so nothing is bootstrapped after it.

    Args:
      trajectories: `[E, T, ...]`.
      discount: γ.
      gae_lambda: λ.

    Returns:
      `[E, T]` advantages in the units of the reward.
    """
    mask = trajectories.mask
    to_go = jax.vmap(partial(returns.discounted_returns, discount=discount))(
        trajectories.reward, trajectories.terminated
    )
    value = returns.linear_feature_baseline(trajectories.obs, to_go, mask)
    return jax.vmap(
        partial(
            returns.generalised_advantages, discount=discount, gae_lambda=gae_lambda
        )
    )(
        trajectories.reward,
        value,
        jnp.pad(value[:, 1:], ((0, 0), (0, 1))),
        trajectories.terminated,
        trajectories.truncated,
    )


def prepare(
    trajectories: Trajectory,
    *,
    discount: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> Batch:
    """Makes the data of one task a batch, with normalised advantages.

    Args:
      trajectories: `[E, T, ...]`.
      discount: γ.
      gae_lambda: λ.

    Returns:
      A `Batch`.
    """
    mask = trajectories.mask
    advantage = advantages(trajectories, discount=discount, gae_lambda=gae_lambda)
    reward = returns.discounted_rewards(trajectories.reward, discount=discount)
    return Batch(
        trajectories.obs,
        trajectories.action,
        trajectories.log_prob,
        reward / (jnp.sqrt(returns.variance(advantage, mask)) + 1e-8),
        returns.normalise(advantage, mask),
        mask,
    )


def act(policy: Policy, params: Params, obs: Any) -> Distribution:
    """Evaluates a policy on `[E, T, ...]` observations, flattened to `[E·T]`."""
    obs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
    return policy.apply(params, policy.initial_memory(), obs)[0]


def surrogate_mean(
    policy: Policy, surrogate: Surrogate, params: Params, batch: Batch
) -> jax.Array:
    """Averages a surrogate over the valid steps of one task's episodes.

    Args:
      policy: how the agent acts.
      surrogate: an estimator (`metarl_jax.surrogates`).
      params: θ, differentiable.
      batch: `[E, T, ...]`.

    Returns:
      `[]`, to be ascended.
    """
    return surrogate_mean_of(act(policy, params, batch.obs), surrogate, batch)


def surrogate_mean_of(
    distribution: Distribution, surrogate: Surrogate, batch: Batch
) -> jax.Array:
    """Averages a surrogate whose policy `act` has evaluated already, `[E·T]`."""
    action = batch.action.reshape(-1, *batch.action.shape[2:])
    log_prob = distribution.log_prob(action)
    total = jax.vmap(surrogate)(
        log_prob.reshape(batch.mask.shape),
        batch.log_prob,
        batch.reward,
        batch.advantage,
        batch.mask,
    )
    return jnp.sum(total) / jnp.maximum(jnp.sum(batch.mask, dtype=total.dtype), 1)


def ascend_in_epochs(
    key: Key,
    policy: Policy,
    surrogate: Surrogate,
    optimizer: optax.GradientTransformation,
    params: Params,
    optimizer_state: Any,
    batch: Batch,
    *,
    num_epochs: int,
    num_minibatches: int,
) -> tuple[Params, Any]:
    """Ascends a surrogate by several epochs of minibatches of the same steps.

    The update of PPO (Schulman et al. 2017, arXiv 1707.06347, algorithm 1) where the
    surrogate is `surrogates.clipped`. With one epoch of one minibatch it is a single
    step on `surrogate_mean`.

    Args:
      key: shuffles the steps.
      policy: how the agent acts.
      surrogate: one that treats each step by itself, as the clipped surrogate and the
        likelihood ratio do: a minibatch is made of steps of many episodes.
      optimizer: any optax transformation.
      params: θ.
      optimizer_state: its state.
      batch: `[E, T, ...]`.
      num_epochs: times that every step is used.
      num_minibatches: M, updates in an epoch; at most E T.

    Returns:
      The new parameters and the optimiser's new state.
    """
    steps = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    size = steps.mask.shape[0] // num_minibatches

    def loss(params, minibatch):
        rows = jax.tree.map(lambda x: x[None], minibatch)
        return -surrogate_mean(policy, surrogate, params, rows)

    def update(carry, minibatch):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, minibatch)
        return updates.descend(optimizer, state, params, gradient, value), None

    def epoch(carry, key):
        # Valid steps first, in a random order, and then dealt out like cards: each
        # minibatch gets its share of them however short the episodes were.
        uniform = jax.random.uniform(key, steps.mask.shape)
        order = jnp.argsort(jnp.where(steps.mask, uniform, 2.0))
        dealt = order[: size * num_minibatches].reshape(size, num_minibatches).T
        minibatches = jax.tree.map(lambda x: x[dealt], steps)
        return jax.lax.scan(update, carry, minibatches)[0], None

    carry = params, optimizer_state
    return jax.lax.scan(epoch, carry, jax.random.split(key, num_epochs))[0]
