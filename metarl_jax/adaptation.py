"""What the gradient-based algorithms share: checks, the first agent, rounds of data.

An algorithm file shows what is special about it: what is learned, what adapts, what the
objective is and how the update is taken. All of them act in N tasks, adapt to what they
saw, K times, and act once more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import inner_loop, outer_loop, policy_gradient, rollout
from metarl_jax.batching import map_tasks
from metarl_jax.outer_loop import OuterOptimizer
from metarl_jax.policy_gradient import Batch
from metarl_jax.surrogates import Surrogate
from metarl_jax.types import Agent, Key, Params, Policy, TaskDistribution, Trajectory
from metarl_jax.validation import (
    check_batch,
    check_divides,
    check_fraction,
    check_key,
    check_policy,
    check_positive,
)

AdaptationStep = Callable[[Agent, Batch], Agent]


class MetaState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    outer_state: Any


class MetaInfo(NamedTuple):
    """What a person plots. All `[]`; returns are means over tasks and episodes."""

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    kl: jax.Array  # mean KL(π_θ'old ‖ π_θ'new) of the update; 0 without a trust region
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array


class Experience(NamedTuple):
    """What N tasks gave in K rounds of adaptation and once after them."""

    agents: Agent  # [N] after K inner steps
    before: Batch  # [N, K, E, T]
    after: Batch  # [N, E, T]
    returns: jax.Array  # [K + 1] means over tasks and episodes
    recorded: Any  # [N, K, ...]

    @property
    def ends(self) -> tuple[jax.Array, jax.Array]:
        """The mean returns before all adaptation and after it."""
        return self.returns[0], self.returns[-1]


@dataclass(frozen=True)
class Scheme:
    """How much is collected, in which tasks, and how it is prepared.

    Attributes:
      tasks: the task distribution.
      policy: how the agents act.
      num_tasks: N.
      num_episodes: E, in each round.
      num_inner_steps: K.
      discount: γ.
      gae_lambda: λ of the advantages.
      task_group_size: tasks under one `vmap` (`metarl_jax.batching`).

    Raises:
      ValueError: if a count is below 1 or what is collected does not fit into memory, γ
        or λ is not in [0, 1], `task_group_size` does not divide `num_tasks`, or the
        policy has memory or does not fit the action space.
    """

    tasks: TaskDistribution
    policy: Policy
    num_tasks: int
    num_episodes: int
    num_inner_steps: int
    discount: Any
    gae_lambda: Any
    task_group_size: int | None = None

    def __post_init__(self):
        """Checks all of it."""
        counts = {
            "num_tasks": self.num_tasks,
            "num_episodes": self.num_episodes,
            "num_inner_steps": self.num_inner_steps,
        }
        check_positive(**counts)
        check_fraction(discount=self.discount, gae_lambda=self.gae_lambda)
        check_divides(self.num_tasks, task_group_size=self.task_group_size)
        check_policy(self.tasks, self.policy, parallel_episodes=True)
        check_batch(self.tasks, self.policy, **counts)

    def first_agent(self, key: Key, optimizer: optax.GradientTransformation) -> Agent:
        """Draws where adaptation starts: θ, and the inner optimiser's state for it."""
        check_key(key)
        *_, key_params = jax.random.split(key, 3)
        obs, memory = self.tasks.blank(), self.policy.initial_memory()
        params = self.policy.init(key_params, memory, obs)
        return Agent(params, memory, optimizer.init(params))

    def prepare(self, trajectories: Trajectory) -> Batch:
        """Makes a batch of one task's trajectories `[E, T]`, with their advantages."""
        return policy_gradient.prepare(
            trajectories, discount=self.discount, gae_lambda=self.gae_lambda
        )

    def act(self, params: Params, obs: Any) -> Any:
        """Returns π_θ at observations `[E, T, ...]`, a distribution `[E·T]`."""
        return policy_gradient.act(self.policy, params, obs)

    def mean(self, surrogate: Surrogate, params: Params, batch: Batch) -> jax.Array:
        """Returns S(θ; D), the mean of a surrogate over the valid steps, `[]`."""
        return policy_gradient.surrogate_mean(self.policy, surrogate, params, batch)

    def ascent(
        self,
        surrogate: Surrogate,
        optimizer: optax.GradientTransformation,
        **options: Any,
    ) -> AdaptationStep:
        """Makes an inner step that ascends S; options are `gradient_step`'s."""

        def loss(params, batch):
            return -self.mean(surrogate, params, batch)

        return inner_loop.gradient_step(loss, optimizer, **options)

    def from_data(
        self, adaptation_step: AdaptationStep
    ) -> Callable[[Key, Agent, Trajectory], Agent]:
        """Makes `MetaAlgorithm.adapt` of an inner step, which draws nothing."""

        def adapt(key, agent, trajectories):
            del key
            return adaptation_step(agent, self.prepare(trajectories))

        return adapt

    def rounds(
        self,
        key: Key,
        agent: Agent,
        adaptation_step: AdaptationStep,
        *,
        prepare_after: Callable[[Trajectory], Batch] | None = None,
        record: Callable[[Agent, Batch], Any] | None = None,
    ) -> Experience:
        """Acts in N tasks and adapts to what was seen, K times, and acts once more.

        Args:
          key: draws the tasks and all that happens in them.
          agent: who begins in every task.
          adaptation_step: an inner step on one task's batch.
          prepare_after: makes the last batch, of all tasks' trajectories `[N, E, T]`,
            where it is not `prepare` of each.
          record: `(agent, batch) -> pytree`, what else is kept of each round and task,
            before it adapts.
        """
        check_key(key)
        key_tasks, key_before, key_after = jax.random.split(key, 3)
        keys = jax.random.split(key_tasks, self.num_tasks)
        task_batch = jax.vmap(self.tasks.sample)(keys)
        over_tasks = partial(map_tasks, group_size=self.task_group_size)

        def collect(key, agents):
            """Acts in every task with its own agent."""
            trajectories = rollout.collect_tasks(
                key,
                self.tasks,
                self.policy,
                agents,
                task_batch,
                num_episodes=self.num_episodes,
            )
            return trajectories, jnp.mean(rollout.episode_returns(trajectories))

        def adaptation_round(agents, key):
            trajectories, mean_return = collect(key, agents)
            batch = jax.vmap(self.prepare)(trajectories)
            recorded = () if record is None else over_tasks(record)(agents, batch)
            adapted = over_tasks(adaptation_step)(agents, batch)
            return adapted, (batch, recorded, mean_return)

        agents = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (self.num_tasks, *jnp.shape(x))), agent
        )
        agents, (*before, returns) = jax.lax.scan(
            adaptation_round, agents, jax.random.split(key_before, self.num_inner_steps)
        )
        batch, recorded = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), before)
        trajectories, last_return = collect(key_after, agents)
        after = (prepare_after or jax.vmap(self.prepare))(trajectories)
        return Experience(
            agents, batch, after, jnp.append(returns, last_return), recorded
        )

    def update(
        self,
        optimizer: OuterOptimizer,
        optimizer_state: Any,
        params: Params,
        objective: Callable[..., tuple[jax.Array, Params]],
        experience: Experience,
        *others: Any,
    ) -> tuple[Params, Any, outer_loop.OuterInfo]:
        """Ascends the mean over tasks of an objective (`outer_loop.update`)."""
        return outer_loop.update(
            optimizer,
            optimizer_state,
            params,
            objective,
            self.act,
            experience.agents.params,
            experience.before,
            experience.after,
            *others,
            group_size=self.task_group_size,
        )
