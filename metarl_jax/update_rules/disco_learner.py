"""An agent that learns one task from nothing, by a rule that was discovered.

It predicts what the rule speaks of (`metarl_jax.update_rules.disco`), keeps what it did
in a ring of trajectories, and descends the rule's losses on some of them, by Adam whose
step in a parameter is at most its learning rate.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from metarl_jax import lifetimes, replay_buffer, spaces, tallies, updates
from metarl_jax.distributions import Categorical
from metarl_jax.types import Agent, Key, Params, Task, TaskDistribution
from metarl_jax.update_rules import disco
from metarl_jax.update_rules.disco import PREDICTION_SIZE, VALUE_BINS
from metarl_jax.update_rules.update_network import Lstm, Mlp, UpdateNetwork
from metarl_jax.validation import (
    check_above_zero,
    check_key,
    check_positive,
    check_sizes,
    check_tasks,
)


class DiscoAgent(nn.Module):
    """Predicts of an observation, and of every action by a step of a learned model.

    Attributes:
      num_actions: A.
      hidden_sizes: of the layers that read the observation, flattened.
      model_size: of the model's recurrent state.
      head_size: of the layer before what is predicted of an action.
      prediction_size: of y and of z.
    """

    num_actions: int
    hidden_sizes: tuple[int, ...] = (512, 512)
    model_size: int = 128
    head_size: int = 128
    prediction_size: int = PREDICTION_SIZE

    @nn.compact
    def __call__(
        self, obs: jax.Array, action: jax.Array | None = None
    ) -> disco.Predictions:
        """Predicts.

        Args:
          obs: `[..., D]`.
          action: `[...]`, that alone is asked of; None: every one.
        """
        small = nn.initializers.truncated_normal(1e-2)
        torso = Mlp(self.hidden_sizes, name="torso")(obs)
        logits = nn.Dense(self.num_actions, kernel_init=small, name="logits")(torso)
        y = nn.Dense(self.prediction_size, kernel_init=small, name="y")(torso)
        cell = nn.Dense(self.model_size, name="root")(torso)
        if action is None:
            shape = (*obs.shape[:-1], self.num_actions)
            cell = jnp.broadcast_to(cell[..., None, :], (*shape, self.model_size))
            action = jnp.broadcast_to(jnp.arange(self.num_actions), shape)
        actions = jax.nn.one_hot(action, self.num_actions)
        after, _ = Lstm(self.model_size, name="model")((jnp.tanh(cell), cell), actions)
        sizes = {
            "z": self.prediction_size,
            "next_logits": self.num_actions,
            "q": VALUE_BINS,
        }
        of_actions = {
            name: Mlp((self.head_size, size), name=name)(after)
            for name, size in sizes.items()
        }
        return disco.Predictions(logits, y, **of_actions)


class Recorded(NamedTuple):
    """A trajectory in the ring, `[T + 1]`."""

    obs: jax.Array  # [T + 1, D]
    action: jax.Array
    logits: jax.Array  # [T + 1, A] of the policy that acted
    reward: jax.Array
    ended: jax.Array


class DiscoState(NamedTuple):
    """What the next update needs."""

    params: Params
    slow: Params  # a running average of the parameters
    optimizer_state: Any
    rule: disco.RuleState
    streams: lifetimes.Stream  # [E]
    gained: jax.Array  # [E] reward of the episodes so far
    replay: replay_buffer.ReplayBuffer


class DiscoInfo(NamedTuple):
    """What a person plots."""

    episode_return: jax.Array  # [E, T + 1] where an episode ended, NaN elsewhere
    losses: dict[str, jax.Array]  # each [], the batch's mean
    skipped: jax.Array  # [] bool: too little to learn from, or it was not finite


class Acting(NamedTuple):
    """An agent as a policy, of which a life sees no more than the actions."""

    predict: Any

    def apply(self, params, memory, obs):
        """Returns the distribution of the action; there is no value."""
        return Categorical(self.predict(params, flat(obs)).logits), 0.0, memory


class Learner(NamedTuple):
    """Learns one task from nothing.

    Attributes:
      init: `(key, task) -> State`.
      step: `(key, task, state) -> (State, Info)`: acts, then changes the agent.
      num_steps: of the environment, that a step takes.
    """

    init: Any
    step: Any
    num_steps: int


def disco_learner(
    tasks: TaskDistribution,
    rule: Params,
    *,
    network: UpdateNetwork | None = None,
    hidden_sizes: tuple[int, ...] = (512, 512),
    model_size: int = 128,
    head_size: int = 128,
    lr: float = 0.01,
    num_envs: int = 2,
    num_steps: int = 29,
    replay_size: int = 1024,
    batch_size: int = 64,
    slow_rate: float = 0.1,
) -> Learner:
    """Builds a learner by a discovered rule, as its authors set it up on Catch.

    Args:
      tasks: the family, with discrete actions.
      rule: parameters of an `UpdateNetwork`, such as those that
        `metarl_jax.published.disco_103` reads.
      network: of which they are; None: of the size of Disco103.
      hidden_sizes: of the agent's layers.
      model_size: of its model's recurrent state.
      head_size: of the layer before what is predicted of an action.
      lr: learning rate, and the largest step of a parameter.
      num_envs: E, copies that act.
      num_steps: of a copy in an update, one more than are learned from.
      replay_size: trajectories that are kept.
      batch_size: B, trajectories of an update; none is made before so many are there.
      slow_rate: how far the slow copy goes towards the parameters.

    Returns:
      A `Learner`.

    Raises:
      ValueError: if a size is out of range, the batch larger than the replay or actions
        are not discrete.
    """
    check_tasks(tasks)
    check_sizes(hidden_sizes=hidden_sizes)
    check_positive(
        model_size=model_size,
        head_size=head_size,
        num_envs=num_envs,
        replay_size=replay_size,
        batch_size=batch_size,
    )
    check_above_zero(lr=lr, slow_rate=slow_rate)
    if num_steps < 2:
        raise ValueError(f"num_steps must be at least 2; got {num_steps}")
    if batch_size > replay_size:
        raise ValueError(
            f"replay_size must be at least batch_size {batch_size}; got {replay_size}"
        )
    num_actions = spaces.num_choices(tasks.action_space)
    if num_actions is None:
        raise ValueError(
            f"the rule is for discrete actions; got {tasks.action_space!r}"
        )
    network = UpdateNetwork() if network is None else network
    agent = DiscoAgent(
        num_actions, hidden_sizes, model_size, head_size, network.prediction_size
    )
    # What flax makes of a module's call may be anything.
    predict: Any = agent.apply
    say_targets: Any = network.apply
    acting: Any = Acting(predict)
    optimizer = optax.chain(
        optax.scale_by_adam(), optax.clip(1.0), optax.scale_by_learning_rate(lr)
    )

    def init(key: Key, task: Task) -> DiscoState:
        check_key(key)
        key_params, key_streams = jax.random.split(key)
        obs = flat(tasks.blank())
        params = agent.init(key_params, obs)
        whole, real = jnp.zeros(num_steps, jnp.int32), jnp.zeros(num_steps)
        one = Recorded(
            jnp.zeros((num_steps, *obs.shape), obs.dtype),
            whole,
            jnp.zeros((num_steps, num_actions)),
            real,
            jnp.zeros(num_steps, bool),
        )
        return DiscoState(
            params,
            params,
            optimizer.init(params),
            network.initial_state(),
            lifetimes.begin_all(key_streams, tasks, task, num_streams=num_envs),
            jnp.zeros(num_envs),
            replay_buffer.empty(one, num_tasks=1, capacity=replay_size),
        )

    def step(key: Key, task: Task, state: DiscoState) -> tuple[DiscoState, DiscoInfo]:
        check_key(key)
        key_act, key_batch = jax.random.split(key)

        streams, steps = lifetimes.act_all(
            key_act,
            tasks,
            acting,
            Agent(state.params),
            task,
            state.streams,
            num_steps=num_steps,
            own_starts=True,
        )
        gained, episode_return = tallies.finished_returns(state.gained, steps)
        obs = jax.vmap(jax.vmap(flat))(steps.obs)
        logits = predict(state.params, obs).logits
        ended = steps.terminated | steps.truncated
        new = Recorded(obs, steps.action, logits, steps.reward, ended)
        replay = replay_buffer.add(
            state.replay,
            jnp.zeros(1, jnp.int32),
            jax.tree.map(lambda x: x[None], new),
            jnp.ones((1, num_envs), bool),
        )
        drawn = replay_buffer.sample(
            key_batch, replay, jnp.zeros(1, jnp.int32), size=batch_size
        )
        batch = jax.tree.map(lambda x: x[0], drawn)
        learned, losses, finite = learn(state, batch)
        skipped = ~finite | (replay.size[0] < batch_size)
        kept = jax.tree.map(
            lambda new, old: jnp.where(skipped, old, new),
            learned._replace(streams=(), gained=(), replay=()),
            state._replace(streams=(), gained=(), replay=()),
        )
        kept = kept._replace(streams=streams, gained=gained, replay=replay)
        return kept, DiscoInfo(episode_return, losses, skipped)

    def learn(state, batch):
        experience = disco.Experience(
            batch.action, batch.reward[:, :-1], batch.ended[:, :-1], batch.logits
        )
        targets, estimates, rule_state = say_targets(
            rule,
            state.rule,
            predict(state.params, batch.obs),
            predict(state.slow, batch.obs),
            experience,
        )

        def loss(params):
            said = predict(params, batch.obs, batch.action)
            each = disco.losses(said, experience, targets, estimates.td_error)
            means = jax.tree.map(jnp.mean, each)
            return means["total"], means

        gradient, means = jax.grad(loss, has_aux=True)(state.params)
        params, optimizer_state = updates.descend(
            optimizer, state.optimizer_state, state.params, gradient, means["total"]
        )
        learned = state._replace(
            params=params,
            slow=optax.incremental_update(state.params, state.slow, slow_rate),
            optimizer_state=optimizer_state,
            rule=rule_state,
        )
        return learned, means, updates.all_finite((means, optax.tree.norm(gradient)))

    return Learner(init, step, num_envs * num_steps)


def flat(obs: Any) -> jax.Array:
    """Returns an observation as one vector."""
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(obs)])
