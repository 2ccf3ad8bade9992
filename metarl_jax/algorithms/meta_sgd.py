"""Meta-SGD: learn the initialisation and the step size of every parameter.

Maximises the return after adaptation,

    I(θ, α) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α ∘ ∇_θ L(θ; D),

over θ and over α, a vector as long as θ (Li et al. 2017, arXiv 1707.09835, algorithm
2). The signs of α are free: it learns the direction of an inner step too, not only its
length. With all its entries equal and held, this is MAML with an inner step of plain
gradient ascent.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, outer_loop, policy_gradient, rollout, surrogates
from metarl_jax.batching import map_tasks
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
from metarl_jax.types import (
    Agent,
    Differentiation,
    MetaAlgorithm,
    Params,
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import (
    check_above_zero,
    check_batch,
    check_divides,
    check_fraction,
    check_key,
    check_policy,
    check_positive,
    check_surrogates,
)


class Learned(NamedTuple):
    """What the outer step moves."""

    params: Params  # θ
    rates: Params  # α, shaped like θ


class MetaSGDState(NamedTuple):
    """What the next meta-training step needs.

    The agent's `inner_state` is α: adaptation needs it, and leaves it as it is.
    """

    agent: Agent
    outer_state: Any


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
    """

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
    check_outer_optimizer(outer_optimizer)
    check_above_zero(initial_rate=initial_rate)
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
    inner_optimizer = learned_rates(initial_rate)
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer
    over_tasks = partial(map_tasks, group_size=task_group_size)

    def init(key):
        check_key(key)
        key_task, key_reset, key_params = jax.random.split(key, 3)
        obs, _ = tasks.reset(key_reset, tasks.sample(key_task))
        params = policy.init(key_params, policy.initial_memory(), obs)
        rates = inner_optimizer.init(params)
        agent = Agent(params, policy.initial_memory(), rates)
        learned = Learned(params, rates)
        return MetaSGDState(agent, outer_loop.init(outer_optimizer, learned))

    prepare = partial(policy_gradient.prepare, discount=discount, gae_lambda=gae_lambda)
    act = partial(policy_gradient.act, policy)
    surrogate_mean = partial(policy_gradient.surrogate_mean, policy)

    adaptation_step = inner_loop.gradient_step(
        lambda params, batch: -surrogate_mean(inner_surrogate, params, batch),
        inner_optimizer,
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

        def objective(learned, before, after):
            start = Agent(learned.params, agent.memory, learned.rates)
            adapted = inner_loop.adapt(adaptation_step, start, before).params
            return surrogate_mean(outer_surrogate, adapted, after), adapted

        learned, outer_state, info = outer_loop.update(
            outer_optimizer,
            state.outer_state,
            Learned(agent.params, agent.inner_state),
            objective,
            act,
            agents.params,
            before,
            after,
            group_size=task_group_size,
        )
        mean_rate = jnp.asarray(optax.tree.sum(agent.inner_state))
        mean_rate /= optax.tree.size(agent.params)
        agent = Agent(learned.params, agent.memory, learned.rates)
        return MetaSGDState(agent, outer_state), MetaSGDInfo(
            returns_before[0], return_after, mean_rate, *info
        )

    return MetaAlgorithm(init, step, adapt, policy)
