"""Learned policy optimisation: the drift that holds a policy back, learned from lives.

A fresh agent learns by several epochs of minibatches of what it did, ascending

    Σ_t ρ_t A_t - f_η(ρ_t, A_t),    f_η = ReLU( n_η(x) + clip drift - ξ ),

n_η a network without biases of x = (1 - ρ, (1 - ρ)², log ρ, (log ρ)², and these times
A). For every η f is then a drift of mirror learning: never negative, 0 with slope 0 at
ρ = 1. η is moved by evolution, by which of two antithetic drifts led to more reward at
the end of a life (Lu et al. 2022, arXiv 2210.05639). The paper's network is fitted to
PPO's drift at first; here that drift is added to one which begins at zero, and the rule
begins as PPO, but for ξ. What such a search found was written down in closed form:
`metarl_jax.surrogates.discovered`.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metarl_jax import actor_critic, lifetimes, surrogates, updates
from metarl_jax.evolution import downhill_of_lives
from metarl_jax.types import Agent, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_key,
    check_not_negative,
    check_optimizers,
    check_positive,
    check_sizes,
)

MARGIN = 1e-4  # ξ


class Learner(NamedTuple):
    """What an agent carries from update to update, in `inner_state`."""

    optimizer_state: Any
    rule: Any  # η


class LPOState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent  # a fresh one, with the rule
    outer_state: Any


class LPOInfo(NamedTuple):
    """What a person plots. All `[]`.

    The returns are estimated from pieces of lives by perturbed drifts
    (`tallies.mean_return`): the first of a life, and its last tenth.
    """

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    skipped: jax.Array


class DriftNetwork(nn.Module):
    """n_η: layers of tanh without biases, zero at first and always at ρ = 1.

    Attributes:
      hidden_sizes: widths.
    """

    hidden_sizes: tuple[int, ...] = (128,)

    def __post_init__(self):
        """Checks the attributes."""
        check_sizes(hidden_sizes=self.hidden_sizes)
        super().__post_init__()

    @nn.compact
    def __call__(self, log_ratio, advantage):
        """Returns n_η of one step, `[]`."""
        change = -jnp.expm1(jnp.clip(log_ratio, -20.0, 20.0))
        features = jnp.stack([change, change**2, log_ratio, log_ratio**2])
        x = jnp.concatenate([features, features * advantage])
        for i, size in enumerate(self.hidden_sizes):
            x = jnp.tanh(nn.Dense(size, use_bias=False, name=f"hidden_{i}")(x))
        zeros = nn.initializers.zeros
        return nn.Dense(1, use_bias=False, kernel_init=zeros, name="output")(x)[0]


def lpo(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 16,
    num_episodes: int = 8,
    rollout_length: int = 64,
    lifetime: int = 20,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    hidden_sizes: tuple[int, ...] = (128,),
    clip_range: float | jax.Array = 0.2,
    inner_optimizer: optax.GradientTransformation | None = None,
    outer_optimizer: optax.GradientTransformation | None = None,
    sigma: float | jax.Array = 0.1,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 0.95,
    entropy_coeff: float | jax.Array = 0.0,
    value_coeff: float | jax.Array = 0.5,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds LPO for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution, compiled.
      policy: how an agent acts and what it expects: without memory, with a value.
      num_tasks: N, pairs of lives in a meta-training step, each pair in a task of its
        own, with the same random numbers.
      num_episodes: W, streams of each life.
      rollout_length: T, steps of each stream from update to update.
      lifetime: updates of a life.
      num_epochs: passes over the steps of an update.
      num_minibatches: M, steps down in a pass.
      hidden_sizes: of the drift's network.
      clip_range: ε of PPO's drift, which the learned one is added to.
      inner_optimizer: moves the agent; default `optax.adam(1e-3)`.
      outer_optimizer: moves η; default `optax.adam(1e-2)`.
      sigma: σ, standard deviation of the perturbations of η.
      discount: γ.
      gae_lambda: λ.
      entropy_coeff: weight of the entropy.
      value_coeff: weight of the squared value error.
      task_group_size: pairs under one `vmap` (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`. `adapt` is one update, of all epochs.

    Raises:
      ValueError: if a count is below 1, a number out of its range, the tasks are
        stepped on the host, or the policy has memory or no value.
    """
    check_positive(
        lifetime=lifetime, num_epochs=num_epochs, num_minibatches=num_minibatches
    )
    check_sizes(hidden_sizes=hidden_sizes)
    check_above_zero(clip_range=clip_range, sigma=sigma)
    check_not_negative(entropy_coeff=entropy_coeff, value_coeff=value_coeff)
    check_optimizers(inner_optimizer=inner_optimizer, outer_optimizer=outer_optimizer)
    lifetimes.check_judged_lives(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        rollout_length=rollout_length,
        discount=discount,
        gae_lambda=gae_lambda,
        task_group_size=task_group_size,
    )
    num_steps = num_episodes * rollout_length
    if num_minibatches > num_steps:
        raise ValueError(
            f"num_minibatches must be at most the {num_steps} steps of an update; got "
            f"{num_minibatches}"
        )
    inner_optimizer = optax.adam(1e-3) if inner_optimizer is None else inner_optimizer
    outer_optimizer = optax.adam(1e-2) if outer_optimizer is None else outer_optimizer
    network: Any = DriftNetwork(tuple(hidden_sizes))

    def learn(key, agent, trajectories):
        """Takes one update by the rule."""
        learner = agent.inner_state

        def drift(log_ratio, advantage):
            clip = surrogates.clipping_drift(
                log_ratio, advantage, clip_range=clip_range
            )
            more = network.apply(learner.rule, log_ratio, advantage)
            return jax.nn.relu(more + clip - MARGIN)

        moved = actor_critic.update_in_epochs(
            key,
            policy,
            agent._replace(inner_state=learner.optimizer_state),
            trajectories,
            surrogates.drifting(drift),
            optimizer=inner_optimizer,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            discount=discount,
            gae_lambda=gae_lambda,
            entropy_coeff=entropy_coeff,
            value_coeff=value_coeff,
        )
        return moved._replace(inner_state=Learner(moved.inner_state, learner.rule))

    def fresh(key, rule):
        memory = policy.initial_memory()
        params = policy.init(key, memory, tasks.blank())
        return Agent(params, memory, Learner(inner_optimizer.init(params), rule))

    def whole_life(rule, key):
        """Returns what the last tenth of a life gives, and its first piece."""
        return lifetimes.from_birth(
            key,
            tasks,
            policy,
            partial(fresh, rule=rule),
            learn,
            num_streams=num_episodes,
            num_steps=rollout_length,
            num_updates=lifetime,
        )

    def init(key):
        check_key(key)
        key_rule, key_agent = jax.random.split(key)
        rule = network.init(key_rule, jnp.zeros(()), jnp.zeros(()))
        return LPOState(fresh(key_agent, rule), outer_optimizer.init(rule))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        rule = state.agent.inner_state.rule

        downhill, before, after = downhill_of_lives(
            key,
            whole_life,
            rule,
            sigma=sigma,
            num_pairs=num_tasks,
            group_size=task_group_size,
        )
        rule, outer_state = updates.descend(
            outer_optimizer, state.outer_state, rule, downhill, -after
        )
        learner = state.agent.inner_state._replace(rule=rule)
        norm = optax.tree.norm(downhill)
        new_state, skipped = updates.keep_finite(
            LPOState(state.agent._replace(inner_state=learner), outer_state),
            state,
            (after, norm),
        )
        return new_state, LPOInfo(before, after, norm, skipped)

    return MetaAlgorithm(init, step, learn, policy)
