"""Almost no inner loop: of the policy, only a part adapts.

Maximises the return after adaptation, as MAML does,

    I(θ) = E_task E_{D ~ π_θ} [ J(θ') ],    θ' = θ - α m ∘ ∇_θ L(θ; D),

with a mask m that is 1 for the parameters that adapt and 0 for those that all tasks
share; the outer step learns all of them. Adapting the head alone is ANIL (Raghu et al.
2020, arXiv 1909.09157), the body alone BOIL (Oh et al. 2021, arXiv 2008.08882), and
everything is MAML.
"""

from collections.abc import Callable
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
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import (
    check_batch,
    check_divides,
    check_fraction,
    check_functions,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
    check_surrogates,
)


class ANILState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    outer_state: Any


class ANILInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    kl: jax.Array  # mean KL(π_θ'old ‖ π_θ'new) of the update; 0 without a trust region
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array


def head(path: str) -> bool:
    """Tells whether a parameter belongs to what stands on the hidden layers.

    Args:
      path: the names from the root to the leaf, such as `"params/hidden_0/kernel"`.

    Returns:
      True if none of them begins with `hidden`: the last layer and the log standard
      deviation of the policies in `metarl_jax.policies`.
    """
    return not body(path)


def body(path: str) -> bool:
    """Tells whether a parameter belongs to a hidden layer, as `head` does."""
    return any(name.startswith("hidden") for name in path.split("/"))


def hold_others(
    optimizer: optax.GradientTransformation, adapts: Callable[[str], bool]
) -> optax.GradientTransformation:
    """Makes an optimiser that leaves some parameters as they are.

    Args:
      optimizer: updates the others.
      adapts: tells by its path whether a parameter is updated.

    Returns:
      An optax transformation.
    """

    def labels(params):
        def label(path, _):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return "adapted" if adapts(name) else "held"

        return jax.tree_util.tree_map_with_path(label, params)

    # The held updates do not read their gradients, so the compiler drops the part of
    # the backward pass that only those need.
    return optax.partition({"adapted": optimizer, "held": optax.set_to_zero()}, labels)


def anil(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 20,
    num_episodes: int = 20,
    num_inner_steps: int = 1,
    adapts: Callable[[str], bool] = head,
    inner_optimizer: optax.GradientTransformation | None = None,
    inner_surrogate: surrogates.Surrogate = surrogates.score_function,
    outer_surrogate: surrogates.Surrogate = surrogates.likelihood_ratio,
    outer_optimizer: optax.GradientTransformation | TrustRegion | None = None,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 1.0,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds ANIL, or BOIL, for a task distribution and a policy without memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts.
      num_tasks: N, tasks in a meta-training step.
      num_episodes: E, episodes of each task before each inner step and after the last.
      num_inner_steps: K, inner steps in meta-training.
      adapts: tells by its path whether a parameter adapts: `head` for ANIL, `body` for
        BOIL, or a function of your own.
      inner_optimizer: turns the inner gradient into an update; default
        `optax.sgd(0.1)`.
      inner_surrogate: what the inner step ascends.
      outer_surrogate: what the outer step ascends.
      outer_optimizer: an optax transformation, or a `TrustRegion` (the default).
      discount: γ.
      gae_lambda: λ of the advantages.
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again: "plain", "rematerialised" or "mixed" (`metarl_jax.inner_loop`).
        "mixed" goes through the parameters that do not adapt as well.
      task_group_size: tasks whose gradients are computed under one `vmap`, one group
        after the other; None for all at once (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, γ or λ is not in [0, 1], `task_group_size` does
        not divide `num_tasks`, no parameter adapts, there is no such differentiation,
        or the policy has memory or does not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_inner_steps=num_inner_steps,
    )
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_functions(adapts=adapts)
    check_optimizers(inner_optimizer=inner_optimizer)
    check_outer_optimizer(outer_optimizer)
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
    inner_optimizer = hold_others(inner_optimizer, adapts)
    outer_optimizer = TrustRegion() if outer_optimizer is None else outer_optimizer
    over_tasks = partial(map_tasks, group_size=task_group_size)

    def init(key):
        check_key(key)
        key_task, key_reset, key_params = jax.random.split(key, 3)
        obs, _ = tasks.reset(key_reset, tasks.sample(key_task))
        params = policy.init(key_params, policy.initial_memory(), obs)
        agent = Agent(params, policy.initial_memory(), inner_optimizer.init(params))
        return ANILState(agent, outer_loop.init(outer_optimizer, params))

    shapes = jax.eval_shape(lambda: init(jax.random.key(0)).agent.params)
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
    ]
    if not any(map(adapts, paths)):
        raise ValueError(
            f"adapts must be true of at least one parameter; of {paths} it is of none"
        )

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

        def objective(params, before, after):
            start = agent._replace(params=params)
            adapted = inner_loop.adapt(adaptation_step, start, before).params
            return surrogate_mean(outer_surrogate, adapted, after), adapted

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
        new_state = ANILState(agent._replace(params=params), outer_state)
        return new_state, ANILInfo(returns_before[0], return_after, *info)

    return MetaAlgorithm(init, step, adapt, policy)
