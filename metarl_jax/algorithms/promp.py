"""Proximal meta-policy search.

Maximises the return after adaptation by several ascents of one proximal objective of
the same data,

    E_task [ J_clip(θ') - η KL(π_θold ‖ π_θ) ],    θ' = θ + α ∇_θ J_LR(θ),

over the initialisation θ (Rothfuss et al. 2019, arXiv 1810.06784, algorithm 1). J_LR
weights the pre-adaptation steps by π_θ / π_θold, which gives the update a Hessian of
low variance and keeps the data usable as θ moves; J_clip clips the ratio of the adapted
policy to the one that sampled the post-adaptation data; and the penalty holds the
policy that would collect the pre-adaptation data to the one that did.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, policy_gradient, surrogates, updates
from metarl_jax.adaptation import MetaState, Scheme
from metarl_jax.batching import mean_over_tasks
from metarl_jax.types import Differentiation, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_not_negative,
    check_optimizers,
    check_positive,
    check_surrogates,
)


class ProMPInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array  # in the first epoch
    kl: jax.Array  # mean KL(π_θold ‖ π_θ) that the last epoch met
    skipped: jax.Array


def promp(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 40,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    num_epochs: int = 5,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.likelihood_ratio,
    outer_optimizer: optax.GradientTransformation | None = None,
    clip_range: float | jax.Array = 0.3,
    kl_coeff: float | jax.Array = 5e-4,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds ProMP for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training. With several, the penalty is
        the mean over the K policies that collect data for one.
      num_epochs: outer updates from one step's data.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.1)`.
      inner_surrogate: what the inner step ascends; one that weights the data by
        ratios, or it is wrong from the second epoch on.
      outer_optimizer: default `optax.adam(1e-3)`.
      clip_range: ε, the adapted policy's ratio has no gradient beyond 1 ± ε.
      kl_coeff: η; with 0 the outer step is PPO's.
      discount: γ.
      gae_lambda: λ of the advantages; 1 with the linear feature baseline is the
        paper's.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again: "plain", "rematerialised" or "mixed" (`metarl_jax.inner_loop`).
      task_group_size: tasks whose gradients are computed under one `vmap`, one group
        after the other; None for all at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: as `metarl_jax.adaptation.Scheme` does, or if `clip_range` is not
        above 0, `kl_coeff` is negative or there is no such differentiation.
    """
    counts = num_tasks, num_episodes, num_inner_steps
    scheme = Scheme(tasks, policy, *counts, discount, gae_lambda, task_group_size)
    check_surrogates(inner_surrogate=inner_surrogate)
    check_positive(num_epochs=num_epochs)
    check_optimizers(outer_optimizer=outer_optimizer)
    check_above_zero(clip_range=clip_range)
    check_not_negative(kl_coeff=kl_coeff)
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer
    outer_optimizer = optax.adam(1e-3) if outer_optimizer is None else outer_optimizer
    outer_surrogate = surrogates.clipped(clip_range)
    mean_over = partial(mean_over_tasks, group_size=task_group_size)

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        return MetaState(agent, outer_optimizer.init(agent.params))

    adaptation_step = scheme.ascent(inner_surrogate, inner_optimizer)

    def loss_and_kl(params, data):
        batch, old = data
        new = scheme.act(params, batch.obs)
        kl = jnp.mean(old.kl(new), where=batch.mask.reshape(-1))
        return -policy_gradient.surrogate_mean_of(new, inner_surrogate, batch), kl

    penalised_step = inner_loop.gradient_step(
        loss_and_kl,
        inner_optimizer,
        has_aux=True,
        differentiation=differentiation,
    )

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(
            key,
            agent,
            adaptation_step,
            record=lambda agent, batch: scheme.act(agent.params, batch.obs),
        )
        after = experience.after
        before = experience.before, experience.recorded  # and who acted, [N, K]

        def objective(params, before, after):
            start = agent._replace(params=params)
            adapted, kl = jax.lax.scan(penalised_step, start, before)
            gain = scheme.mean(outer_surrogate, adapted.params, after)
            return gain - kl_coeff * jnp.mean(kl), jnp.mean(kl)

        def epoch(carry, _):
            params, outer_state = carry
            ascended = jax.value_and_grad(objective, has_aux=True)
            (value, kl), gradient = mean_over(partial(ascended, params))(before, after)
            downhill = optax.tree.scale(-1.0, gradient)
            params, outer_state = updates.descend(
                outer_optimizer, outer_state, params, downhill, -value
            )
            return (params, outer_state), (optax.tree.norm(gradient), kl)

        (params, outer_state), (gradient_norms, kl) = jax.lax.scan(
            epoch, (agent.params, state.outer_state), length=num_epochs
        )
        data = [(batch.reward, batch.advantage) for batch in (experience.before, after)]
        new_state, skipped = updates.keep_finite(
            MetaState(agent._replace(params=params), outer_state),
            state,
            (data, gradient_norms),
        )
        return new_state, ProMPInfo(
            *experience.ends, gradient_norms[0], kl[-1], skipped
        )

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
