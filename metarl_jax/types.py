"""The core types: what an agent, a trajectory, a task family and an algorithm are.

Everything else in the library is a function between these. A task is a gymnax
`EnvParams` pytree, constant over a whole trial; a trial is all the experience an agent
gets with one task, over several episodes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from metarl_jax import spaces
from metarl_jax.promotion import standard_promotion

from gymnax.environments.environment import Environment  # isort: skip: by `spaces`

Key = jax.Array
Params = Any
Memory = Any
Task = Any
Observation = Any
State = Any
Info = Any
# How adaptation is differentiated (`metarl_jax.inner_loop`).
DifferentiationName = Literal["plain", "rematerialised", "mixed"]
Differentiation = DifferentiationName | Callable[..., Any]

ENVIRONMENT_STEP = "environment_step"


class Agent(NamedTuple):
    """What adaptation changes. Every field is a pytree.

    Attributes:
      params: the policy's parameters; gradient-based adaptation moves these.
      memory: what the policy carries from step to step and, within a trial, from
        episode to episode: a hidden state, a posterior sample, bandit counts.
      inner_state: what adaptation carries from round to round: the inner optimiser's
        state, a context buffer.
    """

    params: Params
    memory: Memory = ()
    inner_state: Any = ()


class Trajectory(NamedTuple):
    """One episode of one environment copy, padded to the horizon T.

    Data, never differentiated through. Steps after the episode's end have a false
    `mask`, and what stands in the other fields there means nothing.

    Observations are as the policy saw them, encoded, and the action as it was drawn,
    which its log-probability is of; the environment was given what
    `metarl_jax.spaces.given` made of that, an action within its space.
    """

    obs: Observation  # [T, ...] o_t, what the policy saw
    action: jax.Array  # [T, ...] a_t, what it drew
    log_prob: jax.Array  # [T] log π(a_t | o_t) of the policy that acted
    reward: jax.Array  # [T] r_t, zero where mask is false
    next_obs: Observation  # [T, ...] o_{t+1} before any reset
    terminated: jax.Array  # [T] bool, the environment ended the episode at this step
    truncated: jax.Array  # [T] bool, the time limit ended it
    mask: jax.Array  # [T] bool, the step was taken


class TaskDistribution(NamedTuple):
    """A family of tasks that share one environment.

    Attributes:
      env: a gymnax environment; its `EnvParams` *is* the task.
      sample: draws a meta-training task. Pure, so `jax.vmap` makes a batch.
      sample_heldout: draws a meta-test task; the same function where the paper has no
        split.
      horizon: T, the time limit of one episode in steps. Static.
      oracles: reference returns of one episode by name, each `(key, task) -> []`: an
        exact optimum or the return of a simulated ideal agent.
      optimal_action: `(task, obs) -> action`, what an agent that knows the task draws
        when it sees an observation, one of several where they are as good; None where
        the family does not say.
      encode: `(obs) -> obs`, what a policy sees of an observation of the environment's.
      revealed_reward: `(task, trajectory) -> [T]`, the reward that held-out tasks have,
        of a trajectory of a meta-training task; None where rewards are the same.
      relabel: `(task, trajectory) -> [T]`, the reward that a task pays for an episode
        of another, by the environment's own function; None where anything else of an
        episode would be different too, its steps or its end.
      expected_reward: `(task, trajectory) -> [T]`, E[r_t | task, o_t, a_t], where the
        environment draws rewards at random and what a policy sees tells the mean; None
        where it does not draw them, or that is not known.
      achieved: `(key, task, trajectories [E, T, ...]) -> task`, draws a task whose goal
        is what a trial has come to at some step, the task itself where it has come to
        none; None where there are no goals.
      measures: what is told of an episode beside its return, by name, each
        `(task, trajectory) -> []`: success, collisions, comfort. Evaluations record
        them; nothing learns from them.
    """

    env: Environment
    sample: Callable[[Key], Task]
    sample_heldout: Callable[[Key], Task]
    horizon: int
    oracles: Mapping[str, Callable[[Key, Task], jax.Array]] = {}
    optimal_action: Callable[[Task, Observation], jax.Array] | None = None
    encode: Callable[[Observation], Observation] = lambda obs: obs
    revealed_reward: Callable[[Task, "Trajectory"], jax.Array] | None = None
    relabel: Callable[[Task, "Trajectory"], jax.Array] | None = None
    expected_reward: Callable[[Task, "Trajectory"], jax.Array] | None = None
    achieved: Callable[[Key, Task, "Trajectory"], Task] | None = None
    measures: Mapping[str, Callable[[Task, "Trajectory"], jax.Array]] = {}

    @standard_promotion()
    def reset(self, key: Key, task: Task) -> tuple[Observation, State]:
        """Begins an episode: what a policy sees, and the environment's state."""
        obs, state = self.env.reset_env(key, task)
        return self.encode(obs), state

    @standard_promotion()
    def step(
        self, key: Key, state: State, action: jax.Array, task: Task
    ) -> tuple[Observation, State, jax.Array, jax.Array]:
        """Takes a step by an action as a policy drew it.

        Returns:
          What the policy sees, the environment's state, the reward and whether the
          episode ended by itself. The reward of an action that is not a number is none
          either, whatever the environment makes of it.
        """
        given = spaces.given(self.env.action_space(task), action)
        obs, state, reward, terminated, _ = self.env.step_env(key, state, given, task)
        reward = jnp.asarray(reward).astype(jnp.float32)
        reward = jnp.where(jnp.any(jnp.isnan(action)), jnp.nan, reward)
        # By this name a traced program tells how many steps it takes.
        reward = checkpoint_name(reward, ENVIRONMENT_STEP)
        return self.encode(obs), state, reward, jnp.asarray(terminated, bool)

    @property
    def observation(self) -> Observation:
        """What a policy sees, as shapes."""
        return jax.eval_shape(
            lambda key: self.reset(key, self.sample(key))[0], jax.random.key(0)
        )

    def blank(self) -> Observation:
        """Returns zeros of what a policy sees, to draw parameters by: none is begun."""
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.observation)

    @property
    def action_space(self) -> Any:
        """The environment's action space, with the bounds that one task has."""
        key, seen = jax.random.key(0), []
        jax.eval_shape(
            lambda key: seen.append(self.env.action_space(self.sample(key))), key
        )
        if spaces.is_known(seen[0]):
            return seen[0]
        return self.env.action_space(jax.jit(self.sample)(key))


class Distribution(Protocol):
    """A distribution over actions; a pytree of arrays with any leading batch axes."""

    def sample(self, key: Key) -> jax.Array:
        """Draws actions."""
        ...

    def mode(self) -> jax.Array:
        """Returns the most likely actions."""
        ...

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Returns log p(action), one number per action."""
        ...

    def entropy(self) -> jax.Array:
        """Returns the entropy in nats."""
        ...

    def kl(self, other: Any) -> jax.Array:
        """Returns KL(self ‖ other) in nats."""
        ...


class Policy(Protocol):
    """How an agent acts; any flax Linen module of this shape conforms.

    A policy without memory returns `()` from `initial_memory` and accepts observations
    with any leading batch axes. One that learns while it acts may also have a method
    `observe(memory, transition) -> memory`, called after every step with what came of
    the action (`metarl_jax.rollout.remember`): so the last reward of an episode reaches
    it before the next one begins. One that plans or draws at random for more than a
    step may have a method `begin(key, memory) -> memory`, called before an episode's
    first step: a posterior sample, a plan, or the key of what it draws later. One
    that has a faster way along recorded steps than one after the other may have a
    method `unroll(params, memory, steps)` (`metarl_jax.trials.replay`), where a memory
    of None is the start of a trial. And one with a large memory may have a method
    `hold(goes_on, new, old)` (`metarl_jax.rollout.held`).
    """

    def init(self, key: Key, memory: Memory, obs: Observation, /) -> Params:
        """Draws parameters, given an example of the inputs."""
        ...

    # A flax module's own `apply` is annotated to return anything.
    def apply(self, params: Params, memory: Memory, obs: Observation, /) -> Any:
        """Returns the `Distribution` over actions, the value and the next memory."""
        ...

    def initial_memory(self) -> Memory:
        """Returns the memory at the start of a trial."""
        ...


class MetaAlgorithm(NamedTuple):
    """A meta-learning algorithm as a tuple of pure functions.

    Attributes:
      init: `(key) -> State`. Every state has `.agent`, where adaptation starts.
      step: `(key, state) -> (State, Info)`, one meta-training step: what is compiled.
        Every info has the scalars `return_before` and `return_after` (mean episode
        return before and after adaptation) and `skipped` (the update was not finite
        and was left out).
      adapt: `(key, agent, trajectories) -> Agent`, one adaptation step, from the data
        `[E, T, ...]` of one task alone.
      policy: how an agent acts.
    """

    init: Callable[[Key], State]
    step: Callable[[Key, State], tuple[State, Info]]
    adapt: Callable[[Key, Agent, Trajectory], Agent]
    policy: Policy
