"""Reptile: move the initialisation towards where the tasks' adaptation leads.

    θ ← θ + ε mean_i (θ'_i - θ) = (1 - ε) θ + ε mean_i θ'_i,

with θ'_i after K inner steps on task i, each on fresh data (Nichol et al. 2018, arXiv
1803.02999, algorithm 2). No gradient goes through the adaptation. With K = 1 this is
stochastic gradient descent on the mean over tasks of the inner loss L_i at step size
ε α: what suits all tasks without adaptation. With K > 1, to leading order in α, it also
increases the inner product of the gradients of a task's successive batches, so that a
step on one improves the others.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import aggregation, surrogates, updates
from metarl_jax.adaptation import Scheme
from metarl_jax.types import Agent, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import check_above_zero, check_surrogates


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
        after the other; must divide `num_tasks`; None for all at once.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: as `metarl_jax.adaptation.Scheme` does, or `outer_lr` is not above 0.
    """
    counts = num_tasks, num_episodes, num_inner_steps
    scheme = Scheme(tasks, policy, *counts, discount, gae_lambda, task_group_size)
    check_surrogates(inner_surrogate=inner_surrogate)
    check_above_zero(outer_lr=outer_lr)
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer

    def init(key):
        return ReptileState(scheme.first_agent(key, inner_optimizer))

    # Nothing is differentiated through it.
    adaptation_step = scheme.ascent(inner_surrogate, inner_optimizer, first_order=True)

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(key, agent, adaptation_step)
        average = aggregation.uniform_soup(experience.agents.params)
        params = aggregation.interpolate(average, agent.params, outer_lr)
        update_norm = optax.tree.norm(aggregation.task_vector(average, agent.params))
        # Data that are not finite make the update none either.
        before = experience.before
        finite = updates.all_finite((before.reward, before.advantage))
        new_state, skipped = updates.keep_finite(
            ReptileState(agent._replace(params=params)),
            state,
            (update_norm, jnp.where(finite, 0.0, jnp.nan)),
        )
        return new_state, ReptileInfo(*experience.ends, update_norm, skipped)

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
