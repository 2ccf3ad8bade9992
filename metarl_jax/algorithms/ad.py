"""Algorithm distillation: learning to learn by imitating a learner's whole history.

Learners learn tasks from nothing, and all their episodes are kept, in order. A policy
with memory is trained to name their next action from what they did so far, over several
episodes,

    maximise E_task E_{τ ~ learner} [ Σ_t log π_θ(a_t | o_t, τ_{<t}) ],

with windows so wide that the learner gets better within them. To go on as the learner
would is to get better in context (Laskin et al. 2022, arXiv 2210.14215): nothing is
updated any more, and no reward is maximised in training.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import histories, policy_gradient, rollout, surrogates, trials, updates
from metarl_jax.batching import map_tasks, sum_over_groups
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Policy,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import (
    check_above_zero,
    check_batch,
    check_fraction,
    check_functions,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
    check_remembers,
    check_tasks,
)


class ADState(NamedTuple):
    """What the next training step needs."""

    agent: Agent
    optimizer_state: Any


class ADInfo(NamedTuple):
    """What a person plots. All `[]`; means over tasks."""

    return_before: jax.Array  # of the first episode, the policy acting
    return_after: jax.Array  # of the last
    loss: jax.Array  # -log π(a) in nats, over the steps
    gradient_norm: jax.Array
    skipped: jax.Array


class _SourceState(NamedTuple):
    agent: Agent


def policy_gradient_source(
    tasks: TaskDistribution,
    *,
    hidden_sizes: tuple[int, ...] = (),
    lr: float = 0.03,
    num_epochs: int = 4,
    num_minibatches: int = 1,
    discount: float = 0.99,
) -> MetaAlgorithm:
    """Makes a learner whose histories can be distilled: PPO from nothing.

    Args:
      tasks: the family.
      hidden_sizes: of its layers; none where observations tell states apart.
      lr: of Adam.
      num_epochs: times that the episodes of a round are used.
      num_minibatches: updates in such an epoch.
      discount: γ.

    Returns:
      A `MetaAlgorithm` of which `init`, `adapt` and `policy` are of use.

    Raises:
      ValueError: if a size or rate is out of range.
    """
    check_above_zero(lr=lr)
    check_positive(num_epochs=num_epochs, num_minibatches=num_minibatches)
    check_fraction(discount=discount)
    policy, optimizer = mlp_policy(tasks, hidden_sizes=hidden_sizes), optax.adam(lr)

    def init(key):
        params = policy.init(key, (), tasks.blank())
        return _SourceState(Agent(params, (), optimizer.init(params)))

    def adapt(key, agent, trajectories):
        batch = policy_gradient.prepare(trajectories, discount=discount, gae_lambda=1.0)
        params, inner_state = policy_gradient.ascend_in_epochs(
            key,
            policy,
            surrogates.clipped(0.2),
            optimizer,
            agent.params,
            agent.inner_state,
            batch,
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
        )
        return agent._replace(params=params, inner_state=inner_state)

    def step(key, state):
        del key
        return state, ()

    return MetaAlgorithm(init, step, adapt, policy)


def ad(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    windows: Callable[[Key, int], Trajectory] | None = None,
    source: MetaAlgorithm | None = None,
    num_tasks: int = 64,
    num_episodes: int = 4,
    num_source_rounds: int = 20,
    num_source_episodes: int = 10,
    stride: int = 1,
    num_reported: int = 8,
    outer_optimizer: optax.GradientTransformation | None = None,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds algorithm distillation for any policy with memory.

    Args:
      tasks: the task distribution.
      policy: how the agent acts; it remembers with a transformer in the paper.
      windows: `(key, N) -> [N, E, T, ...]`, windows of recorded histories, such as
        `metarl_jax.datasets.windows` makes; by default a step collects new ones.
      source: whose histories a step collects: its `init`, `adapt` and `policy` are
        used; default `policy_gradient_source(tasks)`.
      num_tasks: N, windows of a training step.
      num_episodes: E, episodes of a window, and of a trial that is reported.
      num_source_rounds: rounds of acting and adapting of a history that is collected.
      num_source_episodes: episodes of such a round.
      stride: every which episode of a history stands in a window: learning is faster
        in context by that factor.
      num_reported: on how many tasks the policy itself acts too, only for its returns
        to be reported.
      outer_optimizer: any optax transformation; default
        `optax.adamw(3e-4, weight_decay=1e-4)`.
      task_group_size: windows whose gradients are computed under one `vmap`, one group
        after the other (`metarl_jax.batching`); None for all. The sums are the same.

    Returns:
      A `MetaAlgorithm`; its `adapt` is the identity.

    Raises:
      ValueError: if a count is below 1, a history is shorter than a window, the policy
        does not remember or it does not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_source_rounds=num_source_rounds,
        num_source_episodes=num_source_episodes,
        stride=stride,
        num_reported=num_reported,
    )
    check_optimizers(outer_optimizer=outer_optimizer)
    if task_group_size is not None:
        check_positive(task_group_size=task_group_size)
    check_tasks(tasks)
    check_policy(tasks, policy, parallel_episodes=False)
    check_remembers(policy, "AD")
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    optimizer = outer_optimizer or optax.adamw(3e-4, weight_decay=1e-4)
    span = (num_episodes - 1) * stride + 1
    length = num_source_rounds * num_source_episodes
    if windows is None:
        if span > length:
            raise ValueError(
                f"num_source_rounds × num_source_episodes must be at least {span}, "
                f"the episodes that a window spans; got {length}"
            )
        learner = policy_gradient_source(tasks) if source is None else source
        check_policy(tasks, learner.policy, parallel_episodes=False)
    else:
        check_functions(windows=windows)
        learner = None

    def init(key):
        check_key(key)
        *_, key_policy = jax.random.split(key, 3)
        obs, memory = tasks.blank(), policy.initial_memory()
        params = policy.init(key_policy, memory, obs)
        return ADState(Agent(params, memory), optimizer.init(params))

    def collect(learner, key):
        """Collects a window `[E, T, ...]` of a new task's history."""
        key_task, key_init, key_learn, key_start = jax.random.split(key, 4)
        whole = histories.history(
            key_learn,
            tasks,
            learner,
            learner.init(key_init).agent,
            tasks.sample(key_task),
            num_rounds=num_source_rounds,
            num_episodes=num_source_episodes,
        )
        start = jax.random.randint(key_start, (), 0, length - span + 1)
        chosen = start + stride * jnp.arange(num_episodes)
        return jax.tree.map(lambda x: x[chosen], whole)

    def step(key, state):
        """One training step."""
        check_key(key)
        key_data, key_tasks, key_report = jax.random.split(key, 3)
        if windows is None:
            keys = jax.random.split(key_data, num_tasks)
            data = map_tasks(lambda key: collect(learner, key))(keys)
        else:
            data = windows(key_data, num_tasks)
        steps = jax.vmap(trials.stream)(data)

        def loss(params, group):
            def one_trial(steps):
                return trials.replay(policy, params, None, steps)[0]

            log_prob = map_tasks(one_trial)(group).log_prob(group.action)
            count = jnp.sum(steps.mask, dtype=log_prob.dtype)
            return -jnp.sum(log_prob, where=group.mask) / count

        params = state.agent.params
        value, gradient = sum_over_groups(
            partial(jax.value_and_grad(loss), params), group_size=task_group_size
        )(steps)
        params, optimizer_state = updates.descend(
            optimizer, state.optimizer_state, params, gradient, value
        )
        gradient_norm = optax.tree.norm(gradient)
        new_state, skipped = updates.keep_finite(
            ADState(state.agent._replace(params=params), optimizer_state),
            state,
            (steps.reward, value, gradient_norm),
        )
        count = min(num_reported, num_tasks)
        reported = jax.vmap(tasks.sample)(jax.random.split(key_tasks, count))

        def act(key, task):
            return rollout.collect(
                key, tasks, policy, state.agent, task, num_episodes=num_episodes
            )[1]

        acted = map_tasks(act)(jax.random.split(key_report, count), reported)
        episode_returns = jnp.mean(rollout.episode_returns(acted), axis=0)
        return new_state, ADInfo(
            episode_returns[0], episode_returns[-1], value, gradient_norm, skipped
        )

    return MetaAlgorithm(init, step, lambda key, agent, trajectories: agent, policy)
