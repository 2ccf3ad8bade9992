"""Model-agnostic meta-learning that accounts for what its own exploration found out.

Maximises the return after adaptation,

    I(θ) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α ∇_θ L(θ; D),

as MAML does, by the whole of its gradient (Stadie et al. 2018, arXiv 1803.01118;
Al-Shedivat et al. 2018, arXiv 1710.03641),

    ∇I = E_task E_D [ ∇_θ J(θ') + (J(θ') - b) Σ_{τ in D} ∇_θ log π_θ(τ) ].

The first term goes through the update. The second makes pre-adaptation trajectories
more likely that led to good returns of their task; it is what the plain score function
leaves out of the inner update, and unbiased with it alone: a likelihood ratio there
would count it twice (`metarl_jax.surrogates`).
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, outer_loop, policy_gradient, surrogates
from metarl_jax.adaptation import MetaInfo, MetaState, Scheme
from metarl_jax.policy_gradient import Batch
from metarl_jax.returns import discounted_rewards, normalise, variance
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import (
    Agent,
    Differentiation,
    MetaAlgorithm,
    Params,
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import check_not_negative, check_surrogates


def less_the_others(value: jax.Array) -> jax.Array:
    """Subtracts from each task's value the mean of the other tasks'.

    That baseline knows nothing of the task's own data and so leaves the expectation of
    value times score as it is; a mean with the task's own value in it would not.

    Args:
      value: `[N]`.

    Returns:
      `[N]`; the value itself for a single task.
    """
    num_others = max(value.shape[0] - 1, 1)
    return value - (jnp.sum(value) - value) / num_others


def loss_and_log_ratio(
    policy: Policy, inner_surrogate: surrogates.Surrogate, params: Params, batch: Batch
) -> tuple[jax.Array, jax.Array]:
    """What an inner step descends, and the score of its data.

    Args:
      policy: how the agent acts.
      inner_surrogate: what the inner step ascends, averaged over the valid steps.
      params: θ, differentiable.
      batch: `[E, T, ...]`, D.

    Returns:
      The loss and Σ_{τ in D} log π_θ(τ), both `[]`. The latter is relative to the
      policy that acted: a constant, without which a line search would look for its
      improvement in the last digits of a large number.
    """
    distribution = policy_gradient.act(policy, params, batch.obs)
    action = batch.action.reshape(-1, *batch.action.shape[2:])
    log_prob = distribution.log_prob(action).reshape(batch.mask.shape)
    log_ratio = jnp.sum(log_prob - batch.log_prob, where=batch.mask)
    loss = -policy_gradient.surrogate_mean_of(distribution, inner_surrogate, batch)
    return loss, log_ratio


def exploration_objective(
    policy: Policy,
    scored_step: Any,
    outer_surrogate: surrogates.Surrogate,
    agent: Agent,
    before: Batch,
    after: Batch,
    weight: jax.Array,
) -> tuple[jax.Array, Params]:
    """One task's surrogate of I(θ), its score correction included.

    S(θ') + w Σ_k Σ_{τ in D_k} log π_θk(τ), with θ_0 = θ and θ_k after k inner steps.

    Args:
      policy: how the agent acts.
      scored_step: `(agent, batch) -> (Agent, [])`, differentiable: an inner step on
        `loss_and_log_ratio`.
      outer_surrogate: S, averaged over the valid steps of `after`.
      agent: where adaptation starts; differentiable in its parameters.
      before: `[K, E, T, ...]`, D.
      after: `[E, T, ...]`, sampled from the adapted policy.
      weight: `[]` w, the return after adaptation in the units of S. A constant.

    Returns:
      The surrogate, `[]`, and the adapted parameters θ'.
    """
    agent, log_ratio = jax.lax.scan(scored_step, agent, before)
    gain = policy_gradient.surrogate_mean(policy, outer_surrogate, agent.params, after)
    return gain + weight * jnp.sum(log_ratio), agent.params


def emaml(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_surrogate: surrogates.Surrogate = surrogates.likelihood_ratio,
    outer_optimizer: optax.GradientTransformation | TrustRegion | None = None,
    correction_coeff: float | jax.Array = 1.0,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds E-MAML for a task distribution and a policy without memory.

    Advantages after adaptation are divided by one standard deviation of all tasks, not
    by each task's own as elsewhere: both terms of the gradient need the same units, and
    a task whose returns hardly vary would blow up the second.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.1)`.
      inner_surrogate: what the inner step ascends; the correction belongs to the plain
        score function.
      outer_surrogate: what the outer step ascends.
      outer_optimizer: an optax transformation, or a `TrustRegion` (the default).
      correction_coeff: factor of the second term. 1 is unbiased where the advantages'
        baseline is not fitted to the episodes that it is taken from, as the linear one
        is, and nearly so with many of them. Its variance grows with the number of
        pre-adaptation steps, all of whose scores it adds, so that more episodes hardly
        help; 1/E takes their mean over episodes, as much published code does; 0 is
        MAML.
      discount: γ.
      gae_lambda: λ of the advantages.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again: "plain", "rematerialised" or "mixed" (`metarl_jax.inner_loop`).
      task_group_size: tasks whose gradients are computed under one `vmap`, one group
        after the other; None for all at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: as `metarl_jax.adaptation.Scheme` does, or if there is no such
        differentiation.
    """
    counts = num_tasks, num_episodes, num_inner_steps
    scheme = Scheme(tasks, policy, *counts, discount, gae_lambda, task_group_size)
    check_surrogates(inner_surrogate=inner_surrogate, outer_surrogate=outer_surrogate)
    check_outer_optimizer(outer_optimizer)
    check_not_negative(correction_coeff=correction_coeff)
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        return MetaState(agent, outer_loop.init(outer_optimizer, agent.params))

    weighting = {"discount": discount, "gae_lambda": gae_lambda}
    scored_step = inner_loop.gradient_step(
        partial(loss_and_log_ratio, policy, inner_surrogate),
        inner_optimizer,
        has_aux=True,
        differentiation=differentiation,
    )

    def adaptation_step(agent, batch):
        return scored_step(agent, batch)[0]

    def prepare_after(trajectories):
        """Divides by one standard deviation of all tasks, `[N, E, T]`."""
        mask = trajectories.mask
        advantage = jax.vmap(partial(policy_gradient.advantages, **weighting))(
            trajectories
        )
        scale = 1 / (jnp.sqrt(variance(advantage, mask)) + 1e-8)
        reward = discounted_rewards(trajectories.reward, discount=discount) * scale
        seen = trajectories.obs, trajectories.action, trajectories.log_prob
        return Batch(*seen, reward, normalise(advantage, mask), mask)

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(
            key, agent, adaptation_step, prepare_after=prepare_after
        )
        # The surrogate is a mean over steps, and so must be what weights the scores.
        after = experience.after
        value = less_the_others(jnp.sum(after.reward, (1, 2), where=after.mask))
        weight = correction_coeff * value / jnp.sum(after.mask, (1, 2), value.dtype)

        def objective(params, before, after, weight):
            start = agent._replace(params=params)
            return exploration_objective(
                policy, scored_step, outer_surrogate, start, before, after, weight
            )

        params, outer_state, info = scheme.update(
            outer_optimizer,
            state.outer_state,
            agent.params,
            objective,
            experience,
            weight,
        )
        new_state = MetaState(agent._replace(params=params), outer_state)
        return new_state, MetaInfo(*experience.ends, *info)

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
