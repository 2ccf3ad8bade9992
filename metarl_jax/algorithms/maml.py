"""Model-agnostic meta-learning for reinforcement learning.

Maximises the return after adaptation,

    I(θ) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α ∇_θ L(θ; D),

over the initialisation θ (Finn et al. 2017, arXiv 1703.03400). The gradient is taken
through θ'(θ), second derivatives included; what the inner surrogate makes of the
Hessian decides its bias (`metarl_jax.surrogates`).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import (
    inner_loop,
    outer_loop,
    policy_gradient,
    rollout,
    surrogates,
)
from metarl_jax.batching import map_tasks
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import (
    Agent,
    Differentiation,
    MetaAlgorithm,
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import (
    check_batch,
    check_divides,
    check_flags,
    check_fraction,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
    check_surrogates,
)


class MAMLState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    outer_state: Any


class MAMLInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    kl: jax.Array  # mean KL(π_θ'old ‖ π_θ'new) of the update; 0 without a trust region
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array


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
      ValueError: if a count is below 1, γ or λ is not in [0, 1], `task_group_size` does
        not divide `num_tasks`, there is no such differentiation, or the policy has
        memory or does not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
    )
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_optimizers(inner_optimizer=inner_optimizer)
    check_outer_optimizer(outer_optimizer)
    check_flags(first_order=first_order)
    check_surrogates(inner_surrogate=inner_surrogate, outer_surrogate=outer_surrogate)
    check_divides(num_tasks, task_group_size=task_group_size)
    check_policy(tasks, policy, parallel_episodes=True)
    check_batch(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
    )
    inner_optimizer = optax.sgd(0.1) if inner_optimizer is None else inner_optimizer
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer
    over_tasks = partial(map_tasks, group_size=task_group_size)

    def init(key):
        check_key(key)
        key_task, key_reset, key_params = jax.random.split(key, 3)
        obs, _ = tasks.reset(key_reset, tasks.sample(key_task))
        params = policy.init(key_params, policy.initial_memory(), obs)
        agent = Agent(params, policy.initial_memory(), inner_optimizer.init(params))
        return MAMLState(agent, outer_loop.init(outer_optimizer, params))

    prepare = partial(policy_gradient.prepare, discount=discount, gae_lambda=gae_lambda)
    act = partial(policy_gradient.act, policy)
    surrogate_mean = partial(policy_gradient.surrogate_mean, policy)

    adaptation_step = inner_loop.gradient_step(
        lambda params, batch: -surrogate_mean(inner_surrogate, params, batch),
        inner_optimizer,
        first_order=first_order,
        differentiation=differentiation,
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
            mean_return = jnp.mean(rollout.episode_returns(trajectories))
            return jax.vmap(prepare)(trajectories), mean_return

        def adaptation_round(agents, key):
            batch, mean_return = collect(key, agents)
            return over_tasks(adaptation_step)(agents, batch), (batch, mean_return)

        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (num_tasks, *jnp.shape(x))), agent
        )
        agents, (before, returns_before) = jax.lax.scan(
            adaptation_round, agents, jax.random.split(key_before, num_inner_steps)
        )
        before = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), before)  # [N, K, E, T]
        after, return_after = collect(key_after, agents)  # [N, E, T]

        def objective(params, before, after):
            start = agent._replace(params=params)
            params = inner_loop.adapt(adaptation_step, start, before).params
            return surrogate_mean(outer_surrogate, params, after), params

        params, outer_state, info = outer_loop.update(
            outer_optimizer,
            state.outer_state,
            agent.params,
            objective,
            act,
            agents.params,
            before,
            after,
            group_size=task_group_size,
        )
        new_state = MAMLState(agent._replace(params=params), outer_state)
        return new_state, MAMLInfo(returns_before[0], return_after, *info)

    return MetaAlgorithm(init, step, adapt, policy)
