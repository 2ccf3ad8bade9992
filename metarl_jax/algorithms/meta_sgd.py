"""Meta-SGD: learn the initialisation and the step size of every parameter.

Maximises the return after adaptation,

    I(θ, α) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α ∘ ∇_θ L(θ; D),

over θ and over α, a vector as long as θ (Li et al. 2017, arXiv 1707.09835, algorithm
2). The signs of α are free: it learns the direction of an inner step too, not only its
length. With all its entries equal and held, this is MAML with an inner step of plain
gradient ascent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, outer_loop, surrogates
from metarl_jax.adaptation import MetaState, Scheme
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import (
    Agent,
    Differentiation,
    MetaAlgorithm,
    Params,
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import check_above_zero, check_surrogates


class Learned(NamedTuple):
    """What the outer step moves."""

    params: Params  # θ
    rates: Params  # α, shaped like θ


class MetaSGDInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    mean_rate: jax.Array  # of α over the parameters, before the update
    gradient_norm: jax.Array
    kl: jax.Array  # mean KL(π_θ'old ‖ π_θ'new) of the update; 0 without a trust region
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array


def learned_rates(initial_rate: float | jax.Array) -> optax.GradientTransformation:
    """Makes gradient descent whose state is the step size of every parameter.

    Args:
      initial_rate: every entry of α at the start.

    Returns:
      An optax transformation, u = -α ∘ g; its state, α, is differentiable.

    Raises:
      ValueError: if a step size is not above 0.
    """
    check_above_zero(initial_rate=initial_rate)

    def init(params):
        return jax.tree.map(lambda x: jnp.full_like(x, initial_rate), params)

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda rate, g: -rate * g, state, updates), state

    return optax.GradientTransformation(init, update)


def meta_sgd(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    initial_rate: float | jax.Array = 0.1,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_surrogate: surrogates.Surrogate = surrogates.likelihood_ratio,
    outer_optimizer: optax.GradientTransformation | TrustRegion | None = None,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds Meta-SGD for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training, all at the same α; the paper's
        is 1.
      initial_rate: every entry of α at the start.
      inner_surrogate: what the inner step ascends.
      outer_surrogate: what the outer step ascends.
      outer_optimizer: an optax transformation of the pytree `Learned(params, rates)`,
        or a `TrustRegion` (the default).
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
    inner_optimizer = learned_rates(initial_rate)
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        learned = Learned(agent.params, agent.inner_state)
        return MetaState(agent, outer_loop.init(outer_optimizer, learned))

    adaptation_step = scheme.ascent(
        inner_surrogate, inner_optimizer, differentiation=differentiation
    )

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(key, agent, adaptation_step)

        def objective(learned, before, after):
            start = Agent(learned.params, agent.memory, learned.rates)
            adapted = inner_loop.adapt(adaptation_step, start, before).params
            return scheme.mean(outer_surrogate, adapted, after), adapted

        learned, outer_state, info = scheme.update(
            outer_optimizer,
            state.outer_state,
            Learned(agent.params, agent.inner_state),
            objective,
            experience,
        )
        mean_rate = jnp.asarray(optax.tree.sum(agent.inner_state))
        mean_rate /= optax.tree.size(agent.params)
        # Adaptation needs α, the agent's inner state, and leaves it as it is.
        agent = Agent(learned.params, agent.memory, learned.rates)
        new_info = MetaSGDInfo(*experience.ends, mean_rate, *info)
        return MetaState(agent, outer_state), new_info

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
