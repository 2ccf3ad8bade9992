"""Model-agnostic meta-learning for reinforcement learning.

Maximises the return after adaptation,

    I(θ) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α ∇_θ L(θ; D),

over the initialisation θ (Finn et al. 2017, arXiv 1703.03400). The gradient is taken
through θ'(θ), second derivatives included; what the inner surrogate makes of the
Hessian decides its bias (`metarl_jax.surrogates`).
"""

import jax
import optax

from metarl_jax import inner_loop, outer_loop, surrogates
from metarl_jax.adaptation import MetaInfo, MetaState, Scheme
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import Differentiation, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import check_flags, check_surrogates


def maml(
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
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    first_order: bool = False,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds MAML for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.1)`.
      inner_surrogate: what the inner step ascends; the paper's is the plain score
        function, whose Hessian with a good baseline says next to nothing of the exact
        one: little is left of the second derivatives (`benchmarks/estimators.py`).
      outer_surrogate: what the outer step ascends.
      outer_optimizer: an optax transformation, or a `TrustRegion` (the paper's; the
        default).
      discount: γ.
      gae_lambda: λ of the advantages; 1 with the linear feature baseline is the
        paper's.
      first_order: whether to drop the second derivatives.
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
    check_flags(first_order=first_order)
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        return MetaState(agent, outer_loop.init(outer_optimizer, agent.params))

    adaptation_step = scheme.ascent(
        inner_surrogate,
        inner_optimizer,
        first_order=first_order,
        differentiation=differentiation,
    )

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(key, agent, adaptation_step)

        def objective(params, before, after):
            start = agent._replace(params=params)
            adapted = inner_loop.adapt(adaptation_step, start, before).params
            return scheme.mean(outer_surrogate, adapted, after), adapted

        params, outer_state, info = scheme.update(
            outer_optimizer, state.outer_state, agent.params, objective, experience
        )
        new_state = MetaState(agent._replace(params=params), outer_state)
        return new_state, MetaInfo(*experience.ends, *info)

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
