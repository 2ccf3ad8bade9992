"""Reptile: move the initialisation towards where the tasks' adaptation leads.

    θ ← θ + ε mean_i (θ'_i - θ) = (1 - ε) θ + ε mean_i θ'_i,

with θ'_i after K inner steps on task i, each on fresh data (Nichol et al. 2018, arXiv
1803.02999, algorithm 2). No gradient goes through the adaptation. With K = 1 this is
stochastic gradient descent on the mean over tasks of the inner loss L_i at step size
ε α: what suits all tasks without adaptation. With K > 1, to leading order in α, it also
increases the inner product of the gradients of a task's successive batches, so that a
step on one improves the others.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import (
    aggregation,
    inner_loop,
    policy_gradient,
    rollout,
    surrogates,
    updates,
)
from metarl_jax.batching import map_tasks
from metarl_jax.types import Agent, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_batch,
    check_fraction,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
    check_surrogates,
)


class ReptileState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent


class ReptileInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    update_norm: jax.Array  # ‖mean_i θ'_i - θ‖
    skipped: jax.Array


def reptile(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_inner_steps: int = 5,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_lr: float | jax.Array = 1.0,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds Reptile for a task distribution and a policy without memory.

    The paper's K and ε are kept. It adapts by Adam to images; the inner step and the
    size of a batch are those of MAML for reinforcement learning.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.1)`.
      inner_surrogate: what the inner step ascends.
      outer_lr: ε; 1 moves to the mean of the adapted models. The paper lets it fall to
        0 during training.
      discount: γ.
      gae_lambda: λ of the advantages.
      task_group_size: tasks whose gradients are computed under one `vmap`, one group
        after the other; None for all at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, γ or λ is not in [0, 1], or the policy has
        memory or does not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
    )
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_optimizers(inner_optimizer=inner_optimizer)
    check_surrogates(inner_surrogate=inner_surrogate)
    if task_group_size is not None:
        check_positive(task_group_size=task_group_size)
    check_above_zero(outer_lr=outer_lr)
    check_policy(tasks, policy, parallel_episodes=True)
    check_batch(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
    )
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer
    over_tasks = partial(map_tasks, group_size=task_group_size)

    def init(key):
        check_key(key)
        key_task, key_reset, key_params = jax.random.split(key, 3)
        obs, _ = tasks.reset(key_reset, tasks.sample(key_task))
        params = policy.init(key_params, policy.initial_memory(), obs)
        agent = Agent(params, policy.initial_memory(), inner_optimizer.init(params))
        return ReptileState(agent)

    prepare = partial(policy_gradient.prepare, discount=discount, gae_lambda=gae_lambda)
    surrogate_mean = partial(policy_gradient.surrogate_mean, policy)

    adaptation_step = inner_loop.gradient_step(
        lambda params, batch: -surrogate_mean(inner_surrogate, params, batch),
        inner_optimizer,
    )

    def adapt(key, agent, trajectories):
        del key
        return adaptation_step(agent, prepare(trajectories))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_before, key_after = jax.random.split(key, 3)
        agent = state.agent
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))

        def collect(key, agents):
            """Acts in every task with its own agent."""
            trajectories = rollout.collect_tasks(
                key, tasks, policy, agents, task_batch, num_episodes=num_episodes
            )
            return trajectories, jnp.mean(rollout.episode_returns(trajectories))

        def adaptation_round(agents, key):
            trajectories, mean_return = collect(key, agents)
            batch = jax.vmap(prepare)(trajectories)
            finite = updates.all_finite((batch.reward, batch.advantage))
            return over_tasks(adaptation_step)(agents, batch), (mean_return, finite)

        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (num_tasks, *jnp.shape(x))), agent
        )
        agents, (returns_before, finite) = jax.lax.scan(
            adaptation_round, agents, jax.random.split(key_before, num_inner_steps)
        )
        _, return_after = collect(key_after, agents)  # only to be reported

        average = aggregation.uniform_soup(agents.params)
        params = aggregation.interpolate(average, agent.params, outer_lr)
        update_norm = optax.tree.norm(aggregation.task_vector(average, agent.params))
        # Data that are not finite make the update none either.
        new_state, skipped = updates.keep_finite(
            ReptileState(agent._replace(params=params)),
            state,
            (update_norm, jnp.where(finite, 0.0, jnp.nan)),
        )
        return new_state, ReptileInfo(
            returns_before[0], return_after, update_norm, skipped
        )

    return MetaAlgorithm(init, step, adapt, policy)
