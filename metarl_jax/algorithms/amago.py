"""AMAGO: off-policy actor-critic on a memory of whole trials, for many discounts.

Maximises, for each of some discounts γ_g at once, the return of a whole trial of E
episodes of one task,

    I_g(θ) = E_task E_{τ ~ π_g} [ Σ_t γ_g^t r_t ],    t = 1 … E T,

from trials that anybody has made, kept in a ring and replayed (Grigsby et al. 2024,
arXiv 2310.09971; with one discount and one critic more than that, Ni et al. 2022, arXiv
2110.05038). One memory encodes a trial; what it makes of every step is read by an actor
for each discount and an ensemble of critics (`metarl_jax.critic_ensemble`), and all of
them train it. Targets are made by slow copies of memory and critics. The discount to
act by is the last one.

With `relabel_fraction` some of the trials are replayed with the rewards that another
task would have paid for them, one whose goal was come to (Andrychowicz et al. 2017,
arXiv 1707.01495) or a new one (Dorfman et al. 2021, arXiv 2008.02598). With `windows`
nothing but recorded trials is learned from.

Different from the authors' code: the critics' errors are divided by the variance of
their targets in the batch, and what the actor climbs by its root, where a running
estimate rescales the critics' last layer there; the critics of a target are drawn once
for an update; there is a slow copy of the memory, as Ni et al. have it, and none of the
actors, where it is the other way round there; and rewards are relabelled when a trial
is replayed, not when it is stored.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import replay_buffer, returns, rollout, spaces, trials, updates
from metarl_jax.batching import map_tasks
from metarl_jax.critic_ensemble import CriticEnsemble, is_better, trial_targets
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.policies.exploring import ExploringPolicy, RoamingPolicy
from metarl_jax.policies.memory import MemoryPolicy
from metarl_jax.policies.mlp import MLP
from metarl_jax.replay_buffer import ReplayBuffer
from metarl_jax.types import (
    Agent,
    Key,
    MetaAlgorithm,
    Params,
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
    check_not_negative,
    check_optimizers,
    check_policy,
    check_positive,
    check_remembers,
    check_sizes,
    first_values,
    shown,
    trajectory,
)

# How much of a box is imitated: what was done nearer to a bound counts as done here.
IMITATED = 0.99


class AMAGOState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    actors: Params  # [G - 1, ...] heads of the discounts before the last
    critic: Params  # [C, ...]
    target: Params  # slow copies of the memory and the critics
    optimizer_state: Any
    replay: ReplayBuffer | tuple[()]  # one ring of trials; none of what is recorded
    step: jax.Array  # [] int32, meta-training steps taken


class AMAGOInfo(NamedTuple):
    """What a person plots. `[]` unless said otherwise; means over tasks and updates."""

    return_before: jax.Array  # of the first episode
    return_after: jax.Array  # of the last
    episode_returns: jax.Array  # [E]
    critic_loss: jax.Array  # squared errors, relative to the targets' variance
    q: jax.Array  # of the steps replayed, by the last discount
    entropy: jax.Array  # of the actors there
    imitated: jax.Array  # fraction of the steps that were better than the actor's
    gradient_norm: jax.Array
    num_dropped: jax.Array  # trials just made, left out for not being finite
    skipped: jax.Array


class Terms(NamedTuple):
    """What the loss is made of, along a trial."""

    q: jax.Array  # [L, C, G] of the steps taken
    target: jax.Array  # [L, G] of it
    climbed: jax.Array  # [L, G] min_i E_{a ~ π_g} Q_i
    log_prob: jax.Array  # [L, G] of the steps taken
    imitate: jax.Array  # [L, G] 0 or 1
    entropy: jax.Array  # [L, G]


def amago(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    windows: Callable[[Key, int], Trajectory] | None = None,
    num_tasks: int = 16,
    num_episodes: int = 2,
    num_updates: int = 8,
    batch_size: int = 32,
    capacity: int = 5000,
    discounts: Sequence[float | jax.Array] = (0.1, 0.9, 0.95, 0.97, 0.99, 0.995, 0.999),
    num_critics: int = 4,
    num_target_critics: int = 2,
    hidden_sizes: Sequence[int] = (256, 256),
    optimizer: optax.GradientTransformation | None = None,
    climb_coeff: float | jax.Array = 1.0,
    clone_coeff: float | jax.Array = 0.1,
    critic_coeff: float | jax.Array = 10.0,
    entropy_coeff: float | jax.Array | optax.Schedule = 0.0,
    target_rate: float | jax.Array = 0.003,
    exploration: float | jax.Array | optax.Schedule = 0.05,
    roam_fraction: float = 0.0,
    relabel_fraction: float = 0.0,
    hindsight_fraction: float = 1.0,
) -> MetaAlgorithm:
    """Builds AMAGO for a task distribution and a policy with memory.

    A meta-training step makes one trial in each of N new tasks, and then U updates of B
    trials from the ring. Adaptation is what the memory does; `adapt` is the identity.

    Args:
      tasks: the task distribution.
      policy: a `MemoryPolicy`. Its core is the memory that all share, its head the
        actor of the last discount. For continuous actions the head has a
        `TanhDiagGaussian` (`memory_policy(tasks, core, squashed=True)`).
      windows: `(key, B) -> [B, E, T, ...]`, recorded trials, such as
        `metarl_jax.datasets.windows` makes, which take the place of the ring: the N
        trials of a step are then reported and not learned from.
      num_tasks: N, trials in a meta-training step, each of another task.
      num_episodes: E, episodes of a trial.
      num_updates: U.
      batch_size: B, trials of an update.
      capacity: trials that the ring holds.
      discounts: γ_g, G of them; the agent acts by the last one.
      num_critics: C.
      num_target_critics: |J|, of how many of them a target takes the least.
      hidden_sizes: of the critics.
      optimizer: of all that is learned; default `optax.adam(3e-4)` after clipping
        gradients to a norm of 1.
      climb_coeff: weight of min_i E_{a ~ π_g} Q_i, in units of the targets' standard
        deviation.
      clone_coeff: weight of the log-probability of actions that were better than the
        actor's; of a box, of what is within 99 % of it.
      critic_coeff: weight of the critics' squared errors.
      entropy_coeff: weight of the actors' entropy; or a schedule of it, a function of
        the meta-training steps taken.
      target_rate: how far the slow copies move towards memory and critics in an update.
      exploration: ε, how many of the actions in meta-training are uniformly random; or
        a schedule of it.
      roam_fraction: in how many of the episodes of meta-training random actions that
        are kept up are taken instead of the actor's (Dabney et al. 2021).
      relabel_fraction: how many of the trials are replayed with the rewards of another
        task.
      hindsight_fraction: how many of these with those of a task whose goal they came
        to; the others with those of a new task.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, there is no discount, |J| > C, the ring has no
        room for the trials of a step, a fraction, γ or a rate is not in [0, 1], the
        policy has no memory or does not fit the action space, continuous actions are
        not squashed into it, or rewards are to be relabelled where the family does not
        say how.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_updates=num_updates,
        batch_size=batch_size,
        capacity=capacity,
        num_critics=num_critics,
        num_target_critics=num_target_critics,
    )
    check_sizes(hidden_sizes=hidden_sizes)
    check_fraction(
        target_rate=target_rate,
        roam_fraction=roam_fraction,
        relabel_fraction=relabel_fraction,
        hindsight_fraction=hindsight_fraction,
        **first_values(exploration=exploration),
    )
    check_above_zero(target_rate=target_rate)
    check_not_negative(
        climb_coeff=climb_coeff,
        clone_coeff=clone_coeff,
        critic_coeff=critic_coeff,
        **first_values(entropy_coeff=entropy_coeff),
    )
    check_optimizers(optimizer=optimizer)
    check_policy(tasks, policy, parallel_episodes=False)
    check_remembers(policy, "AMAGO")
    num_actions = _check_policy(tasks, policy)
    _check_discounts(discounts)
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    if num_target_critics > num_critics:
        raise ValueError(
            f"num_target_critics must be at most num_critics; got {num_target_critics} "
            f"and {num_critics}"
        )
    if windows is not None:
        check_functions(windows=windows)
    elif capacity < num_tasks:
        raise ValueError(
            f"capacity must be at least the num_tasks={num_tasks} trials that are "
            f"added at once; got {capacity}"
        )
    _check_relabelling(tasks, relabel_fraction, hindsight_fraction)
    step_bytes = num_bytes(trajectory(tasks, policy))
    check_fits(
        f"the trials of batch_size={batch_size}",
        step_bytes * batch_size * num_episodes * tasks.horizon,
    )
    assert isinstance(policy, MemoryPolicy)
    head, num_discounts = policy.head, len(discounts)
    critic = CriticEnsemble(
        MLP(num_discounts * (num_actions or 1), hidden_sizes),
        num_critics,
        num_discounts,
        num_actions,
    )
    gammas = jnp.stack([jnp.asarray(gamma, float) for gamma in discounts])
    if optimizer is None:
        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-4))
    explorer = ExploringPolicy(policy, tasks.action_space)
    if roam_fraction and windows is None:
        explorer = RoamingPolicy(explorer, tasks.action_space, roam_fraction)
    # A ring of what is of use alone.
    unused = {"log_prob": ()} if relabel_fraction else {"log_prob": (), "next_obs": ()}

    def act(key, agent, task_batch, epsilon):
        """Makes a trial in each task, `[N, E, T, ...]`."""

        def collect(key, task):
            exploring = Agent((epsilon, agent.params), explorer.initial_memory())
            return rollout.collect(
                key, tasks, explorer, exploring, task, num_episodes=num_episodes
            )[1]

        return map_tasks(collect)(jax.random.split(key, num_tasks), task_batch)

    def relabelled(key, trial):
        """Returns a trial `[E, T, ...]`, perhaps with the rewards of another task."""
        if not relabel_fraction:
            return trial
        key_any, key_task, key_kind, key_achieved = jax.random.split(key, 4)
        task = tasks.sample(key_task)
        if hindsight_fraction:
            achieved = tasks.achieved(key_achieved, task, trial)  # pyright: ignore
            hindsight = jax.random.bernoulli(key_kind, hindsight_fraction)
            task = jax.tree.map(partial(jnp.where, hindsight), achieved, task)
        reward = jax.vmap(partial(tasks.relabel, task))(trial)  # pyright: ignore
        changed = trial.mask & jax.random.bernoulli(key_any, relabel_fraction)
        return trial._replace(reward=jnp.where(changed, reward, trial.reward))

    def along(target, chosen, params, key, steps):
        """Computes the `Terms` of one trial `[L, ...]`."""
        key_value, key_climb = jax.random.split(key)
        obs, features = policy.recall(params["policy"], None, steps)
        # The actors of all discounts; that of the last one is the policy's own.
        heads = jax.tree.map(
            lambda others, own: jnp.append(others, own[None], axis=0),
            params["actors"],
            params["policy"]["params"]["head"],
        )
        distribution = jax.vmap(lambda one: head.apply({"params": one}, obs, features))(
            heads
        )[0]
        # What the actors climb is fixed: through it nothing else must be trained.
        constant, known = jax.lax.stop_gradient((params["critic"], features))
        expected = critic.expected(key_climb, constant, known, distribution)
        q = critic.of_taken(params["critic"], features, steps.action)
        some = jax.tree.map(lambda x: x[chosen], target["critic"])
        _, slow = policy.recall(target["policy"], None, steps)
        value = critic.expected(key_value, some, slow, distribution)
        last = steps.mask & ~jnp.append(steps.mask[1:], False)
        target = trial_targets(steps.reward, jnp.min(value, axis=0), last, gammas)

        def of_taken(one):
            action = steps.action
            if num_actions is None:
                action = one.within(action, IMITATED)
            return one.log_prob(action), one.entropy()

        log_prob, entropy = jax.vmap(of_taken)(distribution)
        return Terms(
            jnp.moveaxis(q, 0, 1),
            jax.lax.stop_gradient(target),
            jnp.min(expected, axis=0),
            log_prob.T,
            is_better(q, expected),
            entropy.T,
        )

    def loss(params, target, key, batch, entropy_weight):
        """The loss of trials `[B, L, ...]`."""
        key_chosen, key_along = jax.random.split(key)
        chosen = jax.random.permutation(key_chosen, num_critics)[:num_target_critics]
        terms = map_tasks(partial(along, target, chosen), learned=params)(
            jax.random.split(key_along, batch.mask.shape[0]), batch
        )
        valid = batch.mask[..., None]
        variance = jax.vmap(returns.variance, (2, None))(terms.target, batch.mask)
        variance = variance[None, None] + 1e-8

        def mean(x):
            return jnp.mean(x, where=valid)

        error = (terms.q - terms.target[:, :, None]) ** 2
        critic_loss = jnp.mean(mean(jnp.mean(error, axis=2) / variance))
        climbed = mean(terms.climbed / jnp.sqrt(variance))
        imitated = mean(terms.imitate * terms.log_prob)
        entropy = mean(terms.entropy)
        total = critic_coeff * critic_loss - (
            climb_coeff * climbed + clone_coeff * imitated + entropy_weight * entropy
        )
        q = jnp.mean(terms.q[..., -1:], axis=2)
        return total, (critic_loss, mean(q), entropy, mean(terms.imitate))

    def init(key):
        check_key(key)
        key_policy, key_actors, key_critic = jax.random.split(key, 3)
        obs, memory = tasks.blank(), policy.initial_memory()
        params = policy.init(key_policy, memory, obs)
        step = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), trajectory(tasks, policy)
        )
        stream = jax.tree.map(lambda x: x[None], step)
        seen, features = jax.tree.map(
            lambda x: jnp.zeros(x.shape[1:], x.dtype),
            jax.eval_shape(policy.recall, params, None, stream),
        )
        keys = jax.random.split(key_actors, num_discounts - 1)
        actors = jax.vmap(lambda key: head.init(key, seen, features)["params"])(keys)
        learned = {
            "policy": params,
            "actors": actors,
            "critic": critic.init(key_critic, features, step.action),
        }
        trial = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(
                (num_episodes, tasks.horizon, *x.shape), x.dtype
            ),
            step._replace(**unused),
        )
        empty = replay_buffer.empty(trial, num_tasks=1, capacity=capacity)
        return AMAGOState(
            Agent(params, memory),
            actors,
            learned["critic"],
            _copied(learned),
            optimizer.init(learned),
            empty if windows is None else (),
            jnp.zeros((), jnp.int32),
        )

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_act, key_updates = jax.random.split(key, 3)
        epsilon = updates.at_step(state.step, exploration)
        weight = updates.at_step(state.step, entropy_coeff)
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))
        trajectories = act(
            key_act,
            state.agent,
            task_batch,
            jnp.asarray(epsilon if windows is None else 0.0, float),
        )
        usable = jax.vmap(updates.all_finite)(trajectories._replace(log_prob=()))
        replay, ring = state.replay, jnp.zeros(1, jnp.int32)
        if windows is None:
            new = jax.tree.map(lambda x: x[None], trajectories._replace(**unused))
            replay = replay_buffer.add(replay, ring, new, usable[None])

        def update(carry, key):
            params, target, optimizer_state = carry
            key_draw, key_relabel, key_loss = jax.random.split(key, 3)
            if windows is None:
                drawn = replay_buffer.sample(key_draw, replay, ring, size=batch_size)
                drawn = jax.tree.map(lambda x: x[0], drawn)
            else:
                drawn = windows(key_draw, batch_size)._replace(**unused)
            keys = jax.random.split(key_relabel, batch_size)
            batch = jax.vmap(trials.stream)(jax.vmap(relabelled)(keys, drawn))
            (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(
                params, target, key_loss, batch, weight
            )
            params, optimizer_state = updates.descend(
                optimizer, optimizer_state, params, gradient, value
            )
            target = optax.incremental_update(_copied(params), target, target_rate)
            return (params, target, optimizer_state), (
                *terms,
                optax.tree.norm(gradient),
            )

        params = {
            "policy": state.agent.params,
            "actors": state.actors,
            "critic": state.critic,
        }
        before = params, state.target, state.optimizer_state
        after, terms = jax.lax.scan(
            update, before, jax.random.split(key_updates, num_updates)
        )
        terms: Any = jax.tree.map(jnp.mean, terms)
        # From a ring without a trial zeros would be drawn.
        held = jnp.asarray(True) if windows is not None else replay.size[0] > 0
        (params, target, optimizer_state), skipped = updates.keep_finite(
            after, before, (terms, jnp.where(held, 0.0, jnp.nan))
        )
        episode_returns = jnp.mean(rollout.episode_returns(trajectories), axis=0)
        new_state = AMAGOState(
            state.agent._replace(params=params["policy"]),
            params["actors"],
            params["critic"],
            target,
            optimizer_state,
            replay,
            state.step + 1,
        )
        return new_state, AMAGOInfo(
            episode_returns[0],
            episode_returns[-1],
            episode_returns,
            *terms,
            num_dropped=jnp.sum(~usable),
            skipped=skipped,
        )

    check_fits(
        f"the networks, and the ring of capacity={capacity} trials,",
        num_bytes(jax.eval_shape(init, jax.random.key(0))),
    )
    return MetaAlgorithm(init, step, lambda key, agent, trajectories: agent, policy)


def _copied(learned: dict[str, Any]) -> dict[str, Any]:
    """Returns what there are slow copies of."""
    return {"policy": learned["policy"], "critic": learned["critic"]}


def _check_policy(tasks: TaskDistribution, policy: Policy) -> int | None:
    """Returns the number of discrete actions; None if they are continuous.

    Raises:
      ValueError: if it is no `MemoryPolicy`, or its actions are not squashed.
    """
    if not isinstance(policy, MemoryPolicy):
        raise ValueError(
            "AMAGO's critics read the core's output of a MemoryPolicy, as "
            f"memory_policy makes; got a {type(policy).__name__}"
        )
    num_actions = spaces.num_choices(tasks.action_space)
    if num_actions is None:
        memory = policy.initial_memory()

        def act(key, obs):
            return policy.apply(policy.init(key, memory, obs), memory, obs)[0]

        acted = jax.eval_shape(act, jax.random.key(0), tasks.observation)
        if not hasattr(acted, "sample_and_log_prob"):
            raise ValueError(
                "continuous actions need a TanhDiagGaussian head, as "
                "memory_policy(tasks, core, squashed=True) has; the policy's is a "
                f"{type(acted).__name__}"
            )
    return num_actions


def _check_discounts(discounts: Any) -> None:
    """Raises a `ValueError` unless they are numbers in [0, 1], at least one."""
    if not isinstance(discounts, Sequence) or isinstance(discounts, str):
        raise ValueError(f"discounts must be a tuple; got {shown(discounts)}")
    if not discounts:
        raise ValueError(f"discounts must be one at least; got {discounts}")
    for gamma in discounts:
        check_fraction(**{"each of discounts": gamma})


def _check_relabelling(
    tasks: TaskDistribution, relabel_fraction: float, hindsight_fraction: float
) -> None:
    """Raises a `ValueError` if rewards are relabelled where nothing says how."""
    if relabel_fraction and tasks.relabel is None:
        raise ValueError(
            "relabel_fraction must be 0 where a family does not say what other tasks "
            f"pay, as {tasks.env.name}; got {relabel_fraction}"
        )
    if relabel_fraction and hindsight_fraction and tasks.achieved is None:
        raise ValueError(
            "hindsight_fraction must be 0 where a family does not say what a goal is, "
            f"as {tasks.env.name}; got {hindsight_fraction}"
        )
