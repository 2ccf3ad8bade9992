"""Pretraining on all tasks at once, and fine-tuning: what meta-learning has to beat.

Maximises the return of one policy over all tasks, as if they were one,

    J(θ) = E_task E_{τ ~ π_θ} [ Σ_t r_t ],

by proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), and adapts by
going on with it on the new task's episodes. No gradient goes through the adaptation:
nothing prepares θ for it. Three references are made of it:

- pretrained and fine-tuned: as it is;
- learning from scratch: adaptation from `init`, with no meta-training;
- a policy that is told the task: on `envs.conditioned.task_conditioned(tasks)`.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import policy_gradient, rollout, surrogates, updates
from metarl_jax.types import Agent, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_batch,
    check_fraction,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
)


class PretrainingState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    outer_state: Any


class PretrainingInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array  # the same: nothing adapts while pretraining
    update_norm: jax.Array  # ‖θ_new - θ‖
    skipped: jax.Array


def pretraining(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_epochs: int = 10,
    num_minibatches: int = 4,
    outer_optimizer: optax.GradientTransformation | None = None,
    num_inner_epochs: int = 10,
    num_inner_minibatches: int = 4,
    inner_optimizer: optax.GradientTransformation | None = None,
    clip_range: float | jax.Array = 0.2,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
) -> MetaAlgorithm:
    """Builds multi-task PPO for a task distribution and a policy without memory.

    With `num_inner_epochs=1, num_inner_minibatches=1` and `optax.sgd(α)` fine-tuning is
    the policy-gradient step of MAML.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task.
      num_epochs: times that pretraining uses the steps it collected.
      num_minibatches: updates in such an epoch.
      outer_optimizer: of pretraining; default `metarl_jax.updates.clipped_adam()`.
      num_inner_epochs: times that fine-tuning uses the episodes of a round.
      num_inner_minibatches: updates in such an epoch.
      inner_optimizer: of fine-tuning; default likewise.
      clip_range: ε, a step's ratio has no gradient beyond 1 ± ε.
      discount: γ.
      gae_lambda: λ of the advantages, each task's from its own linear baseline, which
        is a poor model: below 1 its errors are learned.

    Returns:
      A `MetaAlgorithm`. Its `adapt` draws minibatches with the key it is given.

    Raises:
      ValueError: if a count is below 1, there are fewer steps than minibatches, γ or λ
        is not in [0, 1], `clip_range` is not above 0, or the policy has memory or does
        not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        num_inner_epochs=num_inner_epochs,
        num_inner_minibatches=num_inner_minibatches,
    )
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_above_zero(clip_range=clip_range)
    check_optimizers(inner_optimizer=inner_optimizer, outer_optimizer=outer_optimizer)
    check_policy(tasks, policy, parallel_episodes=True)
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    num_steps = num_episodes * tasks.horizon
    for name, count, most in [
        ("num_minibatches", num_minibatches, num_tasks * num_steps),
        ("num_inner_minibatches", num_inner_minibatches, num_steps),
    ]:
        if count > most:
            raise ValueError(f"{name} must be at most the {most} steps; got {count}")
    default = updates.clipped_adam()
    inner_optimizer = default if inner_optimizer is None else inner_optimizer
    outer_optimizer = default if outer_optimizer is None else outer_optimizer
    surrogate = surrogates.clipped(clip_range)

    def init(key):
        check_key(key)
        *_, key_params = jax.random.split(key, 3)
        obs, memory = tasks.blank(), policy.initial_memory()
        params = policy.init(key_params, memory, obs)
        agent = Agent(params, memory, inner_optimizer.init(params))
        return PretrainingState(agent, outer_optimizer.init(params))

    prepare = partial(policy_gradient.prepare, discount=discount, gae_lambda=gae_lambda)

    def adapt(key, agent, trajectories):
        params, inner_state = policy_gradient.ascend_in_epochs(
            key,
            policy,
            surrogate,
            inner_optimizer,
            agent.params,
            agent.inner_state,
            prepare(trajectories),
            num_epochs=num_inner_epochs,
            num_minibatches=num_inner_minibatches,
        )
        return agent._replace(params=params, inner_state=inner_state)

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_collect, key_epochs = jax.random.split(key, 3)
        agent = state.agent
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))
        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (num_tasks, *jnp.shape(x))), agent
        )
        trajectories = rollout.collect_tasks(
            key_collect, tasks, policy, agents, task_batch, num_episodes=num_episodes
        )
        mean_return = jnp.mean(rollout.episode_returns(trajectories))
        # Advantages are each task's own; from then on all steps are alike.
        batch = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), jax.vmap(prepare)(trajectories)
        )
        params, outer_state = policy_gradient.ascend_in_epochs(
            key_epochs,
            policy,
            surrogate,
            outer_optimizer,
            agent.params,
            state.outer_state,
            batch,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
        )
        update_norm = optax.tree.norm(optax.tree.sub(params, agent.params))
        new_state, skipped = updates.keep_finite(
            PretrainingState(agent._replace(params=params), outer_state),
            state,
            (batch.reward, batch.advantage, update_norm),
        )
        return new_state, PretrainingInfo(
            mean_return, mean_return, update_norm, skipped
        )

    return MetaAlgorithm(init, step, adapt, policy)
