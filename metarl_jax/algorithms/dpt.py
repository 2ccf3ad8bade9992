"""Decision-pretrained transformers: learning to explore by being shown optima.

A policy with memory is trained, without reward, to name the optimal action a* of the
task from what somebody else has done in it so far,

    maximise E_task E_{τ ~ behaviour} [ Σ_t log π_θ(a*(o_t) | o_t, τ_{<t}) ].

The maximiser is the posterior probability that an action is optimal, given the data, so
that acting by a sample of it is posterior sampling (Lee et al. 2023, arXiv 2306.14892):
it explores as Thompson sampling does, although it was shown no exploration.

Here the query is the behaviour's own next observation and the data are all steps
before it, in order. On bandits that is the paper's objective, at every length of data
at once. In longer episodes the paper asks at an observation drawn apart from the data
and holds the data fixed for an episode; here an agent conditions on every step, and so
may draw from another posterior at each.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import rollout, spaces, trials, updates
from metarl_jax.batching import map_tasks, sum_over_groups
from metarl_jax.distributions import Categorical
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Observation,
    Policy,
    Task,
    TaskDistribution,
)
from metarl_jax.validation import (
    check_batch,
    check_functions,
    check_key,
    check_optimizers,
    check_policy,
    check_positive,
    check_remembers,
    check_tasks,
)


class DPTState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    optimizer_state: Any


class DPTInfo(NamedTuple):
    """What a person plots. All `[]`; means over tasks."""

    return_before: jax.Array  # of the first episode, the policy acting
    return_after: jax.Array  # of the last
    loss: jax.Array  # -log π(a*) in nats, over the steps
    last_loss: jax.Array  # the same over each trial's last step, after all its data
    gradient_norm: jax.Array
    skipped: jax.Array


class SkewedBehaviour(NamedTuple):
    """Acts by one distribution over actions throughout an episode, drawn before it.

    (1 - ω) p + ω e with p ~ Dirichlet(1), e all on one action, drawn uniformly, and
    ω ~ U{0, 0.1, …, 1}: the data of Lee et al. 2023 (arXiv 2306.14892) for bandits. So
    there are data sets in which an action was hardly tried.

    Attributes:
      num_actions: A.
    """

    num_actions: int

    def init(self, key, memory, obs):
        """Returns no parameters."""
        del key, memory, obs
        return {}

    def initial_memory(self):
        """Returns log-probabilities `[A]`, replaced before they are used."""
        return jnp.zeros(self.num_actions)

    def begin(self, key: Key, memory: jax.Array) -> jax.Array:
        """Draws log-probabilities `[A]`."""
        del memory
        key_spread, key_action, key_weight = jax.random.split(key, 3)
        spread = jax.random.dirichlet(key_spread, jnp.ones(self.num_actions))
        action = jax.random.randint(key_action, (), 0, self.num_actions)
        weight = jax.random.randint(key_weight, (), 0, 11) / 10
        only = jax.nn.one_hot(action, self.num_actions)
        return jnp.log((1.0 - weight) * spread + weight * only)

    def apply(self, params, memory, obs):
        """Returns the episode's distribution; the value is not estimated."""
        del params, obs
        return Categorical(memory), jnp.zeros(()), memory


def dpt(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None,
    behaviour: Policy | None = None,
    num_tasks: int = 64,
    num_episodes: int = 1,
    num_reported: int = 8,
    outer_optimizer: optax.GradientTransformation | None = None,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds DPT for a task distribution and any policy with memory.

    A step draws new tasks, where the paper goes through 100,000 tasks again and again.
    Adaptation is what the policy's memory does; `adapt` is the identity.

    Args:
      tasks: the task distribution.
      policy: how the agent acts; it remembers with a transformer in the paper.
      optimal_action: `(task, obs) -> action`; default the family's own.
      behaviour: who collects the data, a policy without parameters; default
        `SkewedBehaviour`.
      num_tasks: N, trials in a meta-training step, each of another task.
      num_episodes: E, episodes of a trial.
      num_reported: of the N tasks, in how many at most the policy itself acts too, only
        for its returns to be reported.
      outer_optimizer: any optax transformation; default
        `optax.adamw(1e-4, weight_decay=1e-4)`.
      task_group_size: trials whose gradients are computed under one `vmap`, one group
        after the other (`metarl_jax.batching`); None for all. The sums are the same.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, no optimal action is known, actions are not
        discrete and no behaviour is given, or a policy does not fit the action space.
    """
    check_positive(
        num_tasks=num_tasks, num_episodes=num_episodes, num_reported=num_reported
    )
    check_optimizers(outer_optimizer=outer_optimizer)
    if task_group_size is not None:
        check_positive(task_group_size=task_group_size)
    check_tasks(tasks)
    tell = tasks.optimal_action if optimal_action is None else optimal_action
    if tell is None:
        raise ValueError(
            f"DPT is shown each task's optimal action; the family {tasks.env.name} "
            "names none, so optimal_action is required, got None"
        )
    check_functions(optimal_action=tell)
    if behaviour is None:
        num_actions = spaces.num_choices(tasks.action_space)
        if num_actions is None:
            raise ValueError(
                f"a behaviour is required for actions that are not discrete; got None "
                f"for {tasks.action_space!r}"
            )
        behaviour = SkewedBehaviour(num_actions)
    check_policy(tasks, behaviour, parallel_episodes=False)
    check_policy(tasks, policy, parallel_episodes=False)
    check_remembers(policy, "DPT")
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    optimizer = outer_optimizer or optax.adamw(1e-4, weight_decay=1e-4)

    def init(key):
        check_key(key)
        *_, key_policy = jax.random.split(key, 3)
        obs, memory = tasks.blank(), policy.initial_memory()
        params = policy.init(key_policy, memory, obs)
        return DPTState(Agent(params, memory), optimizer.init(params))

    def collect(key, actor, agent, task_batch):
        """Returns trials `[N, E, T, ...]`."""
        count = jax.tree.leaves(task_batch)[0].shape[0]

        def one_task(key, task):
            return rollout.collect(
                key, tasks, actor, agent, task, num_episodes=num_episodes
            )[1]

        return map_tasks(one_task)(jax.random.split(key, count), task_batch)

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_collect, key_report = jax.random.split(key, 3)
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))
        demonstrator = Agent({}, behaviour.initial_memory())
        trajectories = collect(key_collect, behaviour, demonstrator, task_batch)
        steps = jax.vmap(trials.stream)(trajectories)
        optimum = jax.vmap(jax.vmap(tell, in_axes=(None, 0)))(task_batch, steps.obs)

        def loss(params, group, optimum):
            def one_trial(steps):
                return trials.replay(policy, params, None, steps)[0]

            log_prob = map_tasks(one_trial)(group).log_prob(optimum)

            def share(of):
                """The group's share in the mean over those steps of all trials."""
                count = jnp.sum(of(steps.mask), dtype=log_prob.dtype)
                return -jnp.sum(log_prob, where=of(group.mask)) / count

            return share(lambda mask: mask), share(_last)

        params = state.agent.params
        (value, last_value), gradient = sum_over_groups(
            partial(jax.value_and_grad(loss, has_aux=True), params),
            group_size=task_group_size,
        )(steps, optimum)
        params, optimizer_state = updates.descend(
            optimizer, state.optimizer_state, params, gradient, value
        )
        gradient_norm = optax.tree.norm(gradient)
        new_state, skipped = updates.keep_finite(
            DPTState(state.agent._replace(params=params), optimizer_state),
            state,
            (steps.reward, value, gradient_norm),
        )
        reported = jax.tree.map(lambda x: x[:num_reported], task_batch)
        acted = collect(key_report, policy, state.agent, reported)
        episode_returns = jnp.mean(rollout.episode_returns(acted), axis=0)
        return new_state, DPTInfo(
            episode_returns[0],
            episode_returns[-1],
            value,
            last_value,
            gradient_norm,
            skipped,
        )

    return MetaAlgorithm(init, step, lambda key, agent, trajectories: agent, policy)


def _last(mask: jax.Array) -> jax.Array:
    """Returns which steps `[N, L]` are the last that their trials took."""
    return mask & ~jnp.pad(mask[:, 1:], ((0, 0), (0, 1)))
