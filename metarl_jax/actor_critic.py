"""Advantage actor-critic: the hand-made rule, every number of which may be learned.

θ' = θ - α ∇_θ [ -mean(log π A) - c_H mean(H(π)) + c_V mean((V - G)²) / 2 ],  with A the
generalised advantages and G = A + V, of γ and λ (Mnih et al. 2016, arXiv 1602.01783).
A and G are made before the gradient is taken: constants of it, and yet functions of γ,
λ and θ, through which a meta-gradient goes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, returns, updates
from metarl_jax.surrogates import Surrogate
from metarl_jax.types import Agent, Differentiation, Key, Params, Policy, Trajectory

Number = float | jax.Array
# What an optimiser is told, of parameters, a minibatch's observations, a key and the
# part of the passes that is over.
Tell = Callable[[Params, Any, Key, jax.Array], dict[str, Any]]


class Hyperparameters(NamedTuple):
    """The numbers of the rule; each a float or a traced `[]`."""

    learning_rate: Number = 0.1  # α
    discount: Number = 0.99  # γ
    gae_lambda: Number = 0.95  # λ
    entropy_coeff: Number = 0.01  # c_H
    value_coeff: Number = 0.5  # c_V


class Targets(NamedTuple):
    """What the actor and the critic are moved by."""

    advantage: jax.Array  # [W, T] A
    value: jax.Array  # [W, T] G


def targets(
    policy: Policy,
    params: Params,
    trajectories: Trajectory,
    *,
    discount: Number,
    gae_lambda: Number,
) -> Targets:
    """Computes advantages and what values are to be; differentiable in γ, λ and θ.

    The value of what follows the last step is bootstrapped, unless the episode ended by
    itself there.

    Args:
      policy: with a value.
      params: θ.
      trajectories: `[W, T, ...]`.
      discount: γ.
      gae_lambda: λ.
    """
    value, next_value = (
        policy.apply(params, policy.initial_memory(), obs)[1]
        for obs in (trajectories.obs, trajectories.next_obs)
    )
    advantage = jax.vmap(
        partial(
            returns.generalised_advantages, discount=discount, gae_lambda=gae_lambda
        )
    )(
        trajectories.reward,
        value,
        next_value,
        trajectories.terminated,
        trajectories.truncated,
    )
    return Targets(advantage, advantage + value)


def loss(
    policy: Policy,
    params: Params,
    trajectories: Trajectory,
    targets: Targets,
    *,
    entropy_coeff: Number,
    value_coeff: Number,
) -> jax.Array:
    """Computes -mean(log π A) - c_H mean(H(π)) + c_V mean((V - G)²) / 2 over the steps.

    Args:
      policy: with a value.
      params: θ, differentiable.
      trajectories: `[W, T, ...]`.
      targets: A and G, `[W, T]`.
      entropy_coeff: c_H.
      value_coeff: c_V.

    Returns:
      `[]`.
    """
    distribution, value, _ = policy.apply(
        params, policy.initial_memory(), trajectories.obs
    )
    mean = partial(jnp.mean, where=trajectories.mask)
    gain = mean(distribution.log_prob(trajectories.action) * targets.advantage)
    error = mean((value - targets.value) ** 2)
    return (
        0.5 * value_coeff * error - gain - entropy_coeff * mean(distribution.entropy())
    )


def update(
    policy: Policy,
    agent: Agent,
    trajectories: Trajectory,
    hyperparameters: Hyperparameters,
    *,
    optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    differentiation: Differentiation = "plain",
) -> Agent:
    """Takes one step; differentiable in the hyperparameters and the agent.

    Args:
      policy: with a value.
      agent: θ, and the optimiser's state in `inner_state`.
      trajectories: `[W, T, ...]`.
      hyperparameters: the rule's numbers.
      optimizer: made of α.
      differentiation: what a derivative through the step keeps
        (`metarl_jax.inner_loop`).

    Returns:
      The agent after the step.
    """
    h = hyperparameters
    aims = targets(
        policy,
        agent.params,
        trajectories,
        discount=h.discount,
        gae_lambda=h.gae_lambda,
    )

    def rule_s_loss(params, data):
        trajectories, aims, entropy_coeff, value_coeff = data
        return loss(
            policy,
            params,
            trajectories,
            aims,
            entropy_coeff=entropy_coeff,
            value_coeff=value_coeff,
        )

    step = inner_loop.gradient_step(
        rule_s_loss, optimizer(h.learning_rate), differentiation=differentiation
    )
    return step(agent, (trajectories, aims, h.entropy_coeff, h.value_coeff))


def update_in_epochs(
    key: Key,
    policy: Policy,
    agent: Agent,
    trajectories: Trajectory,
    surrogate: Surrogate,
    *,
    optimizer: optax.GradientTransformation,
    num_epochs: int,
    num_minibatches: int,
    discount: Number = 0.99,
    gae_lambda: Number = 0.95,
    entropy_coeff: Number = 0.01,
    value_coeff: Number = 0.5,
    tell: Tell | None = None,
) -> Agent:
    """Takes several passes over the same steps, in minibatches; PPO where it clips.

    Each ascends mean(S) + c_H mean(H) - c_V mean((V - G)²) / 2, S a surrogate of ratios
    to the policy that acted and of advantages that are normalised over all steps
    (Schulman et al. 2017, arXiv 1707.06347).

    Args:
      key: shuffles the steps.
      policy: with a value.
      agent: θ, and the optimiser's state in `inner_state`.
      trajectories: `[W, T, ...]`.
      surrogate: one that treats each step by itself, as `surrogates.clipped`.
      optimizer: any optax transformation.
      num_epochs: passes.
      num_minibatches: M, updates in a pass; at most W T.
      discount: γ.
      gae_lambda: λ.
      entropy_coeff: c_H.
      value_coeff: c_V.
      tell: what the optimiser is told of every minibatch; None: nothing.

    Returns:
      The agent after all updates.
    """
    aims = targets(
        policy,
        agent.params,
        trajectories,
        discount=discount,
        gae_lambda=gae_lambda,
    )
    mask = trajectories.mask
    aims = aims._replace(advantage=returns.normalise(aims.advantage, mask))
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (trajectories, aims))
    size = mask.size // num_minibatches

    def minibatch_loss(params, minibatch):
        steps, aims = minibatch
        distribution, value, _ = policy.apply(
            params, policy.initial_memory(), steps.obs
        )
        gain = surrogate(
            distribution.log_prob(steps.action),
            steps.log_prob,
            steps.reward,
            aims.advantage,
            steps.mask,
        )
        count = jnp.maximum(jnp.sum(steps.mask, dtype=gain.dtype), 1)
        entropy = jnp.sum(distribution.entropy(), where=steps.mask)
        error = jnp.sum((value - aims.value) ** 2, where=steps.mask)
        total = gain + entropy_coeff * entropy - 0.5 * value_coeff * error
        return -total / count

    def descend(carry, inputs):
        (params, state), (minibatch, *told) = carry, inputs
        value, gradient = jax.value_and_grad(minibatch_loss)(params, minibatch)
        extra = {} if tell is None else tell(params, minibatch[0].obs, *told)
        new = updates.descend(optimizer, state, params, gradient, value, **extra)
        return new, None

    def epoch(carry, inputs):
        key, *part = inputs
        # Valid steps first, in a random order, then dealt out like cards.
        uniform = jax.random.uniform(key, data[0].mask.shape)
        order = jnp.argsort(jnp.where(data[0].mask, uniform, 2.0))
        dealt = order[: size * num_minibatches].reshape(size, num_minibatches).T
        minibatches = jax.tree.map(lambda x: x[dealt], data)
        told = []
        if tell is not None:
            keys = jax.random.split(jax.random.fold_in(key, 1), num_minibatches)
            told = [keys, jnp.broadcast_to(part[0], (num_minibatches,))]
        return jax.lax.scan(descend, carry, (minibatches, *told))[0], None

    inputs = [jax.random.split(key, num_epochs)]
    if tell is not None:
        inputs.append(jnp.linspace(0.0, 1.0, num_epochs))
    start = agent.params, agent.inner_state
    (params, state), _ = jax.lax.scan(epoch, start, inputs)
    return agent._replace(params=params, inner_state=state)
