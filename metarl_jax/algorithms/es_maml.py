"""Meta-learning by evolution strategies: no derivative goes through the adaptation.

Maximises the return after adaptation, smoothed over the initialisation,

    I_σ(θ) = E_{ε ~ N(0, 1)} E_task [ F(θ + σ ε) ],  F(θ) = E_{D ~ π_θ} [ J(U(θ, D)) ],

whose gradient is E [ (F(θ + σ ε) - F(θ - σ ε)) ε ] / 2σ, whatever the adaptation U does
and whether or not it can be differentiated (Song et al. 2020, arXiv 1910.01215,
algorithm 3, with antithetic pairs). That the data depend on θ is part of F, so nothing
is left out of the meta-gradient; its price is a variance that grows with the number of
parameters.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import rollout, surrogates, updates
from metarl_jax.adaptation import MetaState, Scheme
from metarl_jax.batching import mean_over_tasks
from metarl_jax.evolution import antithetic_gradient
from metarl_jax.types import MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_key,
    check_optimizers,
    check_surrogates,
)


class ESMAMLInfo(NamedTuple):
    """What a person plots. All `[]`.

    The returns are means over tasks, episodes and the two sides of each pair: those of
    *perturbed* initialisations. What θ itself achieves, an evaluation tells.
    """

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    skipped: jax.Array


def es_maml(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 150,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_optimizer: optax.GradientTransformation | None = None,
    sigma: float | jax.Array = 0.1,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds ES-MAML for a task distribution and a policy without memory.

    The defaults are those of the authors' code, but for the updates: its inner step is
    an evolution strategy too where this one is a policy gradient, and its outer step
    plain ascent of normalised returns where Adam here needs no normalisation.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step. Each meets an antithetic pair of its
        own; the two sides share all random numbers.
      num_episodes: E, episodes of each side before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.05)`.
      inner_surrogate: what the inner step ascends.
      outer_optimizer: default `optax.adam(0.01)`. It sees gradients in the units of the
        return, undiscounted.
      sigma: σ, standard deviation of the perturbations.
      discount: γ of the inner step.
      gae_lambda: λ of the advantages in the inner step.
      task_group_size: tasks under one `vmap`, one group after the other; None for all
        at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: as `metarl_jax.adaptation.Scheme` does, or if `sigma` is not above 0.
    """
    counts = num_tasks, num_episodes, num_inner_steps
    scheme = Scheme(tasks, policy, *counts, discount, gae_lambda, task_group_size)
    check_surrogates(inner_surrogate=inner_surrogate)
    check_optimizers(outer_optimizer=outer_optimizer)
    check_above_zero(sigma=sigma)
    inner_optimizer = optax.sgd(0.05) if inner_optimizer is None else inner_optimizer
    outer_optimizer = optax.adam(0.01) if outer_optimizer is None else outer_optimizer
    mean_over = partial(mean_over_tasks, group_size=task_group_size)

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        return MetaState(agent, outer_optimizer.init(agent.params))

    # Nothing is differentiated through it.
    adaptation_step = scheme.ascent(inner_surrogate, inner_optimizer, first_order=True)

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_noise, key_rounds = jax.random.split(key, 3)
        agent = state.agent
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))

        def one_task(key_noise, key_rounds, task):
            key_before, key_after = jax.random.split(key_rounds)

            def collect(key, agent):
                _, trajectories = rollout.collect(
                    key, tasks, policy, agent, task, num_episodes=num_episodes
                )
                return trajectories, jnp.mean(rollout.episode_returns(trajectories))

            def adaptation_round(agent, key):
                trajectories, mean_return = collect(key, agent)
                return adaptation_step(agent, scheme.prepare(trajectories)), mean_return

            def return_after_adaptation(params):
                adapted, before = jax.lax.scan(
                    adaptation_round,
                    agent._replace(params=params),
                    jax.random.split(key_before, num_inner_steps),
                )
                value = collect(key_after, adapted)[1]
                # What a broken agent returns says nothing of the initialisation.
                finite = updates.all_finite((adapted, before))
                return jnp.where(finite, value, jnp.nan), before[0]

            return antithetic_gradient(
                key_noise, return_after_adaptation, agent.params, sigma=sigma
            )

        gradient, (after, before) = mean_over(one_task)(
            jax.random.split(key_noise, num_tasks),
            jax.random.split(key_rounds, num_tasks),
            task_batch,
        )
        return_before, return_after = jnp.mean(before), jnp.mean(after)
        downhill = optax.tree.scale(-1.0, gradient)
        params, outer_state = updates.descend(
            outer_optimizer, state.outer_state, agent.params, downhill, -return_after
        )
        seen = return_before, return_after, optax.tree.norm(gradient)
        new_state, skipped = updates.keep_finite(
            MetaState(agent._replace(params=params), outer_state), state, seen
        )
        return new_state, ESMAMLInfo(*seen, skipped)

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
