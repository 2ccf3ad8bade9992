"""OPEN: the optimiser that an agent learns by, learned from lives.

A fresh agent learns by PPO, epochs of minibatches of what it did, and its parameters
are moved by a recurrent network η in the place of Adam, the same for each of them
(`metarl_jax.optimizer_network`). η is moved by evolution, by which of two antithetic
optimisers led to more reward at the end of a life; the search begins with a network of
zeros, which moves nothing (Goldie et al. 2024, arXiv 2407.07082). Or it begins with one
that is known: `init` makes an agent that learns by it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import actor_critic, lifetimes, surrogates, updates
from metarl_jax.evolution import downhill_of_lives
from metarl_jax.optimizer_network import (
    OptimizerNetwork,
    check_layers,
    network_optimizer,
    told_of,
)
from metarl_jax.policies.separate import ActorAndCritic
from metarl_jax.types import Agent, MetaAlgorithm, Params, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_key,
    check_not_negative,
    check_optimizers,
    check_positive,
)


class Learner(NamedTuple):
    """What an agent carries from update to update, in `inner_state`."""

    optimizer_state: Any
    rule: Any  # η
    age: jax.Array  # [] int32, updates


class LearnedOptimizerState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent  # a fresh one, with the rule
    outer_state: Any


class LearnedOptimizerInfo(NamedTuple):
    """What a person plots. All `[]`.

    The returns are estimated from pieces of lives by perturbed optimisers
    (`tallies.mean_return`): the first of a life, and its last tenth.
    """

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    skipped: jax.Array


def learned_optimizer(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 16,
    num_episodes: int = 8,
    rollout_length: int = 64,
    lifetime: int = 20,
    num_epochs: int = 4,
    num_minibatches: int = 4,
    network: OptimizerNetwork = OptimizerNetwork(),  # noqa: B008
    rule: Params | None = None,
    clip_range: float | jax.Array = 0.2,
    max_gradient_norm: float = 0.5,
    outer_optimizer: optax.GradientTransformation | None = None,
    sigma: float | jax.Array = 0.03,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 0.95,
    entropy_coeff: float | jax.Array = 0.01,
    value_coeff: float | jax.Array = 0.5,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds OPEN for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution, compiled.
      policy: how an agent acts and what it expects: a flax module with a value, or an
        `ActorAndCritic`, as in the paper.
      num_tasks: N, pairs of lives in a meta-training step, each pair in a task of its
        own, with the same random numbers.
      num_episodes: W, streams of each life.
      rollout_length: T, steps of each stream from update to update.
      lifetime: updates of a life.
      num_epochs: passes over the steps of an update.
      num_minibatches: M, steps down in a pass.
      network: goes with every parameter.
      rule: η at first, such as `metarl_jax.published.open_optimizer` reads; None:
        zeros.
      clip_range: ε of PPO.
      max_gradient_norm: a gradient is clipped to it, an actor's and a critic's apart.
      outer_optimizer: moves η; default `optax.adam(0.03, b1=0.99)`.
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
        stepped on the host, the policy has memory or no value or is of no layers, or
        the rule is not of the network.
    """
    check_positive(
        lifetime=lifetime, num_epochs=num_epochs, num_minibatches=num_minibatches
    )
    check_above_zero(
        clip_range=clip_range, sigma=sigma, max_gradient_norm=max_gradient_norm
    )
    check_not_negative(entropy_coeff=entropy_coeff, value_coeff=value_coeff)
    check_optimizers(outer_optimizer=outer_optimizer)
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
    check_layers(policy)
    num_steps = num_episodes * rollout_length
    if num_minibatches > num_steps:
        raise ValueError(
            f"num_minibatches must be at most the {num_steps} steps of an update; got "
            f"{num_minibatches}"
        )
    first_rule = network.zeros() if rule is None else rule
    if jax.tree.map(jnp.shape, first_rule) != jax.tree.map(jnp.shape, network.zeros()):
        raise ValueError(f"rule must hold the parameters of {network}; it does not")
    if outer_optimizer is None:
        outer_optimizer = optax.adam(0.03, b1=0.99)
    clip = _clipping(policy, max_gradient_norm)

    def optimizer(rule):
        return optax.chain(clip, network_optimizer(rule, network))

    def learn(key, agent, trajectories):
        """Takes one update by the rule."""
        learner = agent.inner_state
        progress = learner.age / max(lifetime - 1, 1)

        def tell(params, obs, key, epoch_progress):
            return {
                "told": told_of(policy, params, obs),
                "progress": progress,
                "epoch_progress": epoch_progress,
                "key": key,
            }

        moved = actor_critic.update_in_epochs(
            key,
            policy,
            agent._replace(inner_state=learner.optimizer_state),
            trajectories,
            surrogates.clipped(clip_range),
            optimizer=optimizer(learner.rule),
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            discount=discount,
            gae_lambda=gae_lambda,
            entropy_coeff=entropy_coeff,
            value_coeff=value_coeff,
            tell=tell,
        )
        learner = Learner(moved.inner_state, learner.rule, learner.age + 1)
        return moved._replace(inner_state=learner)

    def fresh(key, rule):
        memory = policy.initial_memory()
        params = policy.init(key, memory, tasks.blank())
        state = optimizer(rule).init(params)
        return Agent(params, memory, Learner(state, rule, jnp.zeros((), jnp.int32)))

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
        agent = fresh(key, first_rule)
        return LearnedOptimizerState(agent, outer_optimizer.init(first_rule))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        downhill, before, after = downhill_of_lives(
            key,
            whole_life,
            state.agent.inner_state.rule,
            sigma=sigma,
            num_pairs=num_tasks,
            group_size=task_group_size,
        )
        rule, outer_state = updates.descend(
            outer_optimizer,
            state.outer_state,
            state.agent.inner_state.rule,
            downhill,
            -after,
        )
        learner = state.agent.inner_state._replace(rule=rule)
        norm = optax.tree.norm(downhill)
        new_state, skipped = updates.keep_finite(
            LearnedOptimizerState(
                state.agent._replace(inner_state=learner), outer_state
            ),
            state,
            (after, norm),
        )
        return new_state, LearnedOptimizerInfo(before, after, norm, skipped)

    return MetaAlgorithm(init, step, learn, policy)


def _clipping(policy: Policy, norm: float) -> optax.GradientTransformation:
    """Clips a gradient, where there are two networks each one's."""
    clip = optax.clip_by_global_norm(norm)
    if isinstance(policy, ActorAndCritic):
        names = {"actor": "actor", "critic": "critic"}
        return optax.partition({name: clip for name in names}, names)
    return clip
