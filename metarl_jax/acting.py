"""Acting in a plain Python loop, and adapting to data from wherever it comes.

For simulators, robots and logs that are no compiled environment: an agent is asked for
actions one by one, and episodes become the `Trajectory` that `adapt` takes.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import rollout, spaces
from metarl_jax.training import Trained
from metarl_jax.types import Agent, Key, Policy, TaskDistribution, Trajectory


class Actor(NamedTuple):
    """An agent in the middle of a trial.

    Attributes:
      tasks: whose observations it reads and whose actions it takes.
      policy: how it acts.
      agent: its parameters and memory.
      key: of what is drawn next.
      steps: what it has done, a `Trajectory` without time axis each.
      pending: the action that has not been answered yet.
      memory: that the policy returned with it.
    """

    tasks: TaskDistribution
    policy: Policy
    agent: Agent
    key: Key
    steps: tuple[Trajectory, ...] = ()
    pending: Trajectory | None = None
    memory: Any = None

    def trajectories(self, *, horizon: int | None = None) -> Trajectory:
        """Returns the episodes so far `[E, T, ...]`, as `adapt` takes them."""
        episodes, episode = [], []
        for step in self.steps:
            episode.append(step)
            if step.terminated or step.truncated:
                episodes.append(episode)
                episode = []
        if episode:
            episodes.append(episode)
        if not episodes:
            raise ValueError("the actor has taken no step yet")
        stacked = [
            jax.tree.map(lambda *leaves: np.stack(leaves), *steps) for steps in episodes
        ]
        return _padded(stacked, self.tasks.horizon if horizon is None else horizon)


def start(run: Trained, *, agent: Agent | None = None, seed: int = 0) -> Actor:
    """Begins a trial with what was learned.

    Args:
      run: what `train` of one seed or `load_run` returned.
      agent: an adapted agent; None for the one that adaptation starts from.
      seed: decides what is drawn.
    """
    if not isinstance(run, Trained):
        raise ValueError(
            f"what train or load_run returned is required; got {type(run).__name__}"
        )
    if run.num_seeds > 1:
        raise ValueError(
            f"one of the run's {run.num_seeds} seeds is required: load_run(path, seed)"
        )
    return Actor(
        run.experiment.tasks,
        run.policy,
        run.agent if agent is None else agent,
        jax.random.key(seed),
    )


def act(
    actor: Actor | Trained, obs: Any, *, greedy: bool = False
) -> tuple[np.ndarray, Actor]:
    """Chooses an action.

    >>> import metarl_jax, numpy as np
    >>> experiment = metarl_jax.make_experiment("point-nav", num_tasks=2, num_steps=1)
    >>> actor = metarl_jax.train(experiment, quiet=True)
    >>> obs = np.zeros(2)
    >>> for t in range(3):
    ...     action, actor = metarl_jax.act(actor, obs)
    ...     obs = obs + 0.1 * action  # a simulator of your own
    ...     actor = metarl_jax.observe(actor, -np.sum(obs**2), obs, truncated=t == 2)
    >>> actor.trajectories().reward.shape  # padded to the family's horizon
    (1, 100)

    Args:
      actor: who acts: what `train` or `load_run` returned, and then what this returned.
      obs: the environment's observation, not yet encoded.
      greedy: whether to take the likeliest action instead of a sample.

    Returns:
      The action that the environment is to be given, within its space, and the actor,
      who waits to be told by `observe` what came of it.

    Raises:
      ValueError: if the last action was not answered by `observe`, or the observation
        is not of the family.
    """
    if isinstance(actor, Trained):
        actor = start(actor)
    if actor.pending is not None:
        raise ValueError("observe must tell what came of the last action before act")
    encoded = _encoded(actor.tasks, obs)
    key, key_action, key_begin = jax.random.split(actor.key, 3)
    agent = actor.agent
    begins = not actor.steps or actor.steps[-1].terminated | actor.steps[-1].truncated
    if begins and hasattr(actor.policy, "begin"):
        memory = actor.policy.begin(key_begin, agent.memory)  # pyright: ignore
        agent = agent._replace(memory=memory)
    step = _compiled(actor.policy, greedy)
    drawn, log_prob, memory = step(key_action, agent.params, agent.memory, encoded)
    given = np.asarray(spaces.given(actor.tasks.action_space, drawn))
    fields: Any = (encoded, np.asarray(drawn), np.asarray(log_prob), np.float32(0.0))
    pending = Trajectory(*fields, encoded, *(np.bool_(x) for x in (0, 0, 1)))  # type: ignore
    return given, actor._replace(agent=agent, key=key, pending=pending, memory=memory)


def observe(
    actor: Actor,
    reward: float,
    next_obs: Any,
    *,
    terminated: bool = False,
    truncated: bool = False,
) -> Actor:
    """Tells an actor what came of its action; see `act`.

    Args:
      actor: as `act` returned it.
      reward: of the step.
      next_obs: the observation after it, before any reset.
      terminated: whether the episode ended by itself.
      truncated: whether a time limit ended it.

    Returns:
      The actor, ready to act; its memory lives on through the episode's end.

    Raises:
      ValueError: if it has not acted.
    """
    if actor.pending is None:
        raise ValueError("act must come before observe")
    step = actor.pending._replace(
        reward=np.float32(reward),
        next_obs=_encoded(actor.tasks, next_obs),
        terminated=np.bool_(terminated),
        truncated=np.bool_(truncated and not terminated),
    )
    memory = rollout.remember(actor.policy, actor.memory, step)
    agent = actor.agent._replace(memory=memory)
    return actor._replace(
        agent=agent, steps=(*actor.steps, step), pending=None, memory=None
    )


def trajectories_from_episodes(
    episodes: Sequence[Mapping[str, Any] | Sequence[Any]],
    run: Trained | None = None,
    *,
    horizon: int | None = None,
) -> Trajectory:
    """Makes recorded episodes of any lengths what `adapt` takes.

    >>> import metarl_jax, numpy as np
    >>> long, short = (
    ...     {
    ...         "obs": np.zeros((n + 1, 2)),
    ...         "action": np.zeros((n, 2)),
    ...         "reward": np.ones(n),
    ...         "log_prob": np.zeros(n),
    ...     }
    ...     for n in (4, 2)
    ... )
    >>> metarl_jax.trajectories_from_episodes([long, short]).mask.astype(int)
    array([[1, 1, 1, 1],
           [1, 1, 0, 0]])

    Args:
      episodes: a mapping each, or a sequence (obs, action, reward, log_prob):
        `obs` `[n + 1, ...]`, the last one after the last step, or `[n, ...]` with
        `next_obs` `[n, ...]`; `action` `[n, ...]` as the policy drew it; `reward`
        `[n]`; `log_prob` `[n]` of the actions, which may be left out where `run` is
        given: they are then taken for those of its agent, which acts without memory.
        `terminated` tells whether the episode ended by itself, at its end or of every
        step; otherwise a time limit ended it.
      run: what `train` or `load_run` returned: observations are encoded as its family
        has them, and padded to its horizon.
      horizon: T; None for the run's, or the length of the longest episode.

    Returns:
      `[E, T, ...]`, padded, with the mask of the steps that were taken.

    Raises:
      ValueError: if there is no episode, lengths do not fit, a value is not finite, or
        something is missing.
    """
    if not episodes:
        raise ValueError("at least one episode is required; got none")
    read = [_episode(number, episode, run) for number, episode in enumerate(episodes)]
    longest = max(len(episode.reward) for episode in read)
    if horizon is None:
        horizon = longest if run is None else run.experiment.tasks.horizon
    return _padded(read, horizon)


def _episode(number: int, episode: Any, run: Trained | None) -> Trajectory:
    """Reads one episode, `[n, ...]`."""
    if not isinstance(episode, Mapping):
        names = ("obs", "action", "reward", "log_prob")
        episode = dict(zip(names, episode, strict=False))
    where = f"episode {number}"
    missing = [name for name in ("obs", "action", "reward") if name not in episode]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}")
    reward = np.asarray(episode["reward"], np.float32)
    if reward.ndim != 1 or not len(reward):
        raise ValueError(
            f"the reward of {where} must be a vector of at least one step; got shape "
            f"{reward.shape}"
        )
    length = len(reward)
    encode = _one_by_one(None if run is None else run.experiment.tasks)
    obs, action = encode(episode["obs"]), np.asarray(episode["action"])
    if "next_obs" in episode:
        next_obs = encode(episode["next_obs"])
    elif len(obs) == length + 1:
        obs, next_obs = obs[:-1], obs[1:]
    else:
        raise ValueError(
            f"{where} must have {length + 1} observations for {length} rewards, or as "
            f"many next_obs; got {len(obs)}"
        )
    ended = np.asarray(episode.get("terminated", False))
    terminated = np.zeros(length, bool)
    if ended.ndim:
        terminated = ended.astype(bool)
    else:
        terminated[-1] = bool(ended)
    truncated = np.zeros(length, bool)
    if len(terminated) == length:
        truncated[-1] = not terminated[-1]
    log_prob = episode.get("log_prob")
    if log_prob is None:
        log_prob = _log_prob(where, run, obs, action)
    log_prob = np.asarray(log_prob, np.float32)
    fields: Any = (obs, action, log_prob, reward, next_obs, terminated, truncated)
    read = Trajectory(*fields, np.ones(length, bool))  # type: ignore
    for name, values in read._asdict().items():
        if len(values) != length:
            raise ValueError(
                f"{name} of {where} must have the {length} steps of its rewards; got "
                f"{len(values)}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of {where} must be finite; got {values}")
    if terminated[:-1].any():
        raise ValueError(f"{where} must not go on after a step that terminated it")
    return read


def _log_prob(where: str, run: Trained | None, obs, action) -> np.ndarray:
    """Returns log π(a_t | o_t) of a run's agent."""
    if run is None:
        raise ValueError(f"{where} needs log_prob, or the run whose agent acted")
    agent = run.agent
    if jax.tree.leaves(agent.memory):
        raise ValueError(
            f"{where} needs log_prob: the agent acts by a memory, which a log lacks"
        )
    distribution, _, _ = run.policy.apply(agent.params, agent.memory, obs)
    return np.asarray(distribution.log_prob(jnp.asarray(action)))


def _padded(episodes: Sequence[Trajectory], horizon: int) -> Trajectory:
    """Pads episodes `[n, ...]` to `[E, T, ...]`."""
    for number, episode in enumerate(episodes):
        if len(episode.reward) > horizon:
            raise ValueError(
                f"episode {number} has {len(episode.reward)} steps; at most the "
                f"horizon's {horizon} are possible"
            )

    def pad(*leaves):
        shapes = {leaf.shape[1:] for leaf in leaves}
        if len(shapes) > 1:
            raise ValueError(f"episodes must have the same shapes; got {shapes}")
        # Repeats the last step, whose mask is false: what stands there means nothing.
        return np.stack([leaf[np.minimum(steps, len(leaf) - 1)] for leaf in leaves])

    steps = np.arange(horizon)
    whole = jax.tree.map(pad, *episodes)
    lengths = np.array([len(episode.reward) for episode in episodes])
    mask = steps < lengths[:, None]
    return whole._replace(
        reward=np.where(mask, whole.reward, 0.0),
        terminated=whole.terminated & mask,
        truncated=whole.truncated & mask,
        mask=mask,
    )


def _one_by_one(tasks: TaskDistribution | None):
    """Returns what encodes a stack of observations."""
    if tasks is None:
        return lambda obs: np.asarray(obs)

    def encode(obs):
        stacked = jax.vmap(tasks.encode)(jax.tree.map(jnp.asarray, obs))
        _check_obs(tasks, jax.tree.map(lambda leaf: leaf[0], stacked))
        return np.asarray(stacked)

    return encode


def _encoded(tasks: TaskDistribution, obs: Any) -> np.ndarray:
    """Returns what the policy sees of an observation."""
    encoded = tasks.encode(jax.tree.map(jnp.asarray, obs))
    _check_obs(tasks, encoded)
    return np.asarray(encoded)


def _check_obs(tasks: TaskDistribution, encoded: Any) -> None:
    expected = tasks.observation
    if jnp.shape(encoded) != expected.shape:
        raise ValueError(
            f"an observation must be one of the family's, which a policy sees as an "
            f"array of shape {expected.shape}; got {jnp.shape(encoded)}"
        )
    if not np.isfinite(encoded).all():
        raise ValueError(f"an observation must be finite; got {encoded}")


# Typed: policies that are tuples are equal to others of the same entries.
@functools.lru_cache(maxsize=32, typed=True)
def _compiled(policy: Policy, greedy: bool):
    """Compiles a policy's step, once for a policy."""

    @jax.jit
    def step(key, params, memory, obs):
        distribution, _, memory = policy.apply(params, memory, obs)
        action = distribution.mode() if greedy else distribution.sample(key)
        return action, distribution.log_prob(action), memory

    return step
