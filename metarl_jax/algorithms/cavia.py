"""Fast context adaptation: only a small vector at the policy's input adapts.

Maximises the return after adaptation,

    I(θ) = E_task E_{D ~ π_θ,0} [ J(θ, φ') ],    φ' = 0 - α ∇_φ L(θ, φ; D) at φ = 0,

over the network's parameters θ, which all tasks share; φ, the context, begins at zero
on every task and is all that the inner step moves (Zintgraf et al. 2019, arXiv
1810.03642). So what a task is takes few numbers, and the inner learning rate may be
large without harm to θ.
"""

import jax
import optax

from metarl_jax import inner_loop, outer_loop, surrogates
from metarl_jax.adaptation import MetaInfo, MetaState, Scheme
from metarl_jax.policies.context import ContextPolicy
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import Differentiation, MetaAlgorithm, Policy, TaskDistribution
from metarl_jax.validation import (
    check_appended,
    check_methods,
    check_optimizers,
    check_positive,
    check_surrogates,
    check_tasks,
)


def _check_obs(tasks: TaskDistribution) -> None:
    obs = tasks.observation
    if not isinstance(obs, jax.ShapeDtypeStruct) or not obs.shape:
        raise ValueError(
            "a context is appended to the last axis of the observation, which must be "
            f"one array of at least one axis; {tasks.env.name} observes {obs}"
        )


def cavia(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    context_size: int = 5,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_surrogate: surrogates.Surrogate = surrogates.likelihood_ratio,
    outer_optimizer: optax.GradientTransformation | TrustRegion | None = None,
    discount: float | jax.Array = 0.95,
    gae_lambda: float | jax.Array = 1.0,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds CAVIA for a task distribution and a policy without memory.

    The defaults are those of the authors' code for 2-D navigation.

    Args:
      tasks: the task distribution.
      policy: how an agent acts that sees observation and context as one vector; the
        algorithm's own `policy` is this one inside a `ContextPolicy`.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      context_size: how long φ is.
      inner_optimizer: turns the inner gradient into an update of φ; default
        `optax.sgd(1.0)`.
      inner_surrogate: what the inner step ascends.
      outer_surrogate: what the outer step ascends.
      outer_optimizer: an optax transformation of θ, or a `TrustRegion` (the paper's;
        the default).
      discount: γ.
      gae_lambda: λ of the advantages.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again: "plain", "rematerialised" or "mixed" (`metarl_jax.inner_loop`).
      task_group_size: tasks whose gradients are computed under one `vmap`, one group
        after the other; None for all at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`, whose agent's `params` are `{"network": θ, "context": 0}`.

    Raises:
      ValueError: as `metarl_jax.adaptation.Scheme` does, or if there is no such
        differentiation or an observation is not one array of at least one axis.
    """
    check_positive(context_size=context_size)
    check_optimizers(inner_optimizer=inner_optimizer)
    check_outer_optimizer(outer_optimizer)
    check_tasks(tasks)
    _check_obs(tasks)
    check_methods(policy)
    actor, policy = policy, ContextPolicy(policy, context_size)
    counts = num_tasks, num_episodes, num_inner_steps
    scheme = Scheme(tasks, policy, *counts, discount, gae_lambda, task_group_size)
    check_surrogates(inner_surrogate=inner_surrogate, outer_surrogate=outer_surrogate)
    check_appended(tasks, actor, "context", size=context_size)
    inner_optimizer = optax.partition(
        {
            "adapted": optax.sgd(1.0) if inner_optimizer is None else inner_optimizer,
            "shared": optax.set_to_zero(),
        },
        {"network": "shared", "context": "adapted"},
    )
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer

    def init(key):
        agent = scheme.first_agent(key, inner_optimizer)
        network = agent.params["network"]
        return MetaState(agent, outer_loop.init(outer_optimizer, network))

    adaptation_step = scheme.ascent(
        inner_surrogate, inner_optimizer, differentiation=differentiation
    )

    def step(key, state):
        """One meta-training step."""
        agent = state.agent
        experience = scheme.rounds(key, agent, adaptation_step)

        def objective(network, before, after):
            start = agent._replace(params={**agent.params, "network": network})
            adapted = inner_loop.adapt(adaptation_step, start, before).params
            return scheme.mean(outer_surrogate, adapted, after), adapted

        network, outer_state, info = scheme.update(
            outer_optimizer,
            state.outer_state,
            agent.params["network"],
            objective,
            experience,
        )
        params = {**agent.params, "network": network}
        new_state = MetaState(agent._replace(params=params), outer_state)
        return new_state, MetaInfo(*experience.ends, *info)

    adapt = scheme.from_data(adaptation_step)
    return MetaAlgorithm(init, step, adapt, policy)
