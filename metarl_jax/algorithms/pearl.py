"""PEARL: off-policy actor-critic with posterior sampling over a latent task variable.

Maximises, over the tasks and what an agent has seen of each, the entropy-regularised
return of a policy that is told a sample of its belief about the task,

    I(θ) = E_task E_c E_{z ~ q(z|c)} E_{π_θ(·|o,z)} [ Σ_t γ^t (r_t + α H(π_θ(·|o_t, z))) ],

where the belief after the context c of transitions is a product of Gaussian factors,

    q_φ(z|c) ∝ N(z; 0, I) Π_n N(z; μ_φ(c_n), 1 / λ_φ(c_n)),

whatever their order (Rakelly et al. 2019, arXiv 1903.08254). The encoder φ learns from
the critics' temporal differences and from KL(q ‖ N(0, I)), the actor sees z as data.
Adaptation is inference: a trial acts by one z an episode, drawn anew from what was
learned of the task by then.

The actor-critic is that of Haarnoja et al. 2018 (arXiv 1812.05905): the smaller of two
Q functions, each with a slowly moving copy for the targets, and no separate V (the
authors' code has the older form). For discrete actions every expectation over them is a
sum (Christodoulou 2019, arXiv 1910.07207).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from gymnax.environments import spaces

from metarl_jax import replay_buffer, rollout
from metarl_jax.distributions import Categorical, TanhDiagGaussian
from metarl_jax.policies.latent import Belief, LatentPolicy, prior
from metarl_jax.policies.mlp import MLP
from metarl_jax.replay_buffer import ReplayBuffer
from metarl_jax.types import (
    Agent,
    Distribution,
    MetaAlgorithm,
    Params,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import (
    check_above_zero,
    check_fraction,
    check_policy,
    check_positive,
)

ContextReward = Callable[[Task, Trajectory], jax.Array]


class Transition(NamedTuple):
    """One step, as far as it matters who took it: not at all."""

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    terminated: jax.Array


class Context(NamedTuple):
    """One trial of each task as the encoder sees it."""

    steps: Transition  # [M, E, T, ...]
    mask: jax.Array  # [M, E, T]


class Learned(NamedTuple):
    """What gradients move, and what follows it."""

    params: dict[str, Params]  # of the actor, encoder, critics and the log temperature
    target_critics: Params
    optimizer_state: Any


class PEARLState(NamedTuple):
    """What the next meta-training step needs.

    The agent's `params` are `{"actor": …, "encoder": …}`, its `memory` a `Belief`.
    """

    agent: Agent
    critics: Params
    log_temperature: jax.Array
    target_critics: Params
    optimizer_state: Any
    tasks: Task  # [M] the meta-training tasks
    replay: ReplayBuffer  # what actor and critics learn from
    context: Context  # what beliefs are made of: each task's latest trial


class PEARLInfo(NamedTuple):
    """What a person plots. `[]` unless said otherwise; means over tasks and updates."""

    return_before: jax.Array  # of the trials' first episode
    return_after: jax.Array  # of the last
    episode_returns: jax.Array  # [E]
    critic_loss: jax.Array
    value: jax.Array  # Q of the steps in the replay buffer
    entropy: jax.Array  # of the policy
    temperature: jax.Array
    kl: jax.Array  # KL(q(z|c) ‖ N(0, I)) in nats
    gradient_norm: jax.Array
    skipped: jax.Array


def td_target(
    reward: jax.Array,
    terminated: jax.Array,
    next_value: jax.Array,
    *,
    discount: float | jax.Array,
) -> jax.Array:
    """Returns r + γ (1 - d) V(s'); where time ran out the future still counts."""
    return reward + discount * jnp.where(terminated, 0.0, next_value)


def soft_value(
    key: jax.Array,
    distribution: Distribution,
    q: Callable[[jax.Array | None], jax.Array],
    temperature: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Computes V = E_{a ~ π}[ Q(a) - α log π(a) ].

    By enumeration for a `Categorical`; otherwise by one reparameterised sample.

    Args:
      key: consumed.
      distribution: π at states `[B]`.
      q: `(action [B, D]) -> [B]`, or for discrete actions `(None) -> [B, A]`.
      temperature: α.

    Returns:
      V and the entropy E[-log π], both `[B]`.
    """
    if isinstance(distribution, Categorical):
        log_p = jax.nn.log_softmax(distribution.logits)
        entropy = distribution.entropy()
        return jnp.sum(jnp.exp(log_p) * q(None), axis=-1) + temperature * entropy, entropy
    action, log_prob = distribution.sample_and_log_prob(key)  # pyright: ignore
    return q(action) - temperature * log_prob, -log_prob


def pearl(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 16,
    num_episodes: int = 3,
    num_train_tasks: int = 100,
    num_updates: int = 100,
    batch_size: int = 256,
    capacity: int = 10_000,
    latent_size: int = 5,
    hidden_sizes: Sequence[int] = (300, 300, 300),
    encoder_hidden_sizes: Sequence[int] = (200, 200, 200),
    optimizer: optax.GradientTransformation | None = None,
    temperature: float | jax.Array = 0.2,
    target_entropy: float | None = None,
    kl_coeff: float | jax.Array = 0.064,
    discount: float | jax.Array = 0.99,
    target_rate: float | jax.Array = 0.005,
    context_reward: ContextReward | None = None,
) -> MetaAlgorithm:
    """Builds PEARL for a task distribution and a policy without memory.

    The meta-training tasks are drawn once, at `init`, which also acts one trial in each.
    A meta-training step acts one trial in N of them and then makes U updates from the
    replay buffer. The context of an update is the first n episodes of the task's latest
    trial, n uniform in 1…E: what an agent has seen of a new task by then.

    Args:
      tasks: the task distribution.
      policy: the actor: how an agent acts that sees observation and z as one vector;
        the algorithm's own `policy` is this one inside a `LatentPolicy`. For bounded
        actions one with a `TanhDiagGaussian` (`mlp_policy(..., squashed=True)`).
      num_tasks: N, tasks acted in in a meta-training step, and tasks of each update.
      num_episodes: E, episodes of a trial in meta-training.
      num_train_tasks: M, meta-training tasks.
      num_updates: U. The authors make 2000 after acting in 5 tasks for 1000 steps each.
      batch_size: B, steps of each task in an update.
      capacity: steps kept of each task, at least E T.
      latent_size: C, how long z is.
      hidden_sizes: of the critics.
      encoder_hidden_sizes: of the encoder.
      optimizer: of everything; default `optax.adam(3e-4)`.
      temperature: α. The authors multiply rewards by 1 / α = 5 instead, which comes to
        the same: they have 0.1 for each of 16 tasks as the weight of the KL beside
        squared errors that are 25 times ours.
      target_entropy: in nats; where given, α is learned, beginning with `temperature`,
        so that the policy has this entropy.
      kl_coeff: weight of the KL beside the critics' squared errors.
      discount: γ.
      target_rate: τ, how far the target critics move in an update.
      context_reward: `(task, trajectory) -> [T]`, the reward that the encoder is shown
        in meta-training, where held-out tasks will have another than meta-training ones
        (a sparse one, which would teach an actor little); None: the reward itself.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count or size is below 1, N > M, `capacity` is below E T,
        `temperature` is not above 0 or `kl_coeff` below 0, γ or τ is not in [0, 1], an
        observation is not a vector, or the policy has memory or does not fit the action
        space.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_train_tasks=num_train_tasks,
        num_updates=num_updates,
        batch_size=batch_size,
        capacity=capacity,
        latent_size=latent_size,
    )
    check_fraction(discount=discount, target_rate=target_rate)
    if num_tasks > num_train_tasks:
        raise ValueError(
            f"num_tasks must be at most num_train_tasks; got {num_tasks} and "
            f"{num_train_tasks}"
        )
    if capacity < num_episodes * tasks.horizon:
        raise ValueError(
            f"capacity must be at least the {num_episodes * tasks.horizon} steps of a "
            f"trial; got {capacity}"
        )
    check_above_zero(temperature=temperature)
    num_actions = _check_actor(tasks, policy)
    actor = policy
    policy = LatentPolicy(actor, latent_size)
    check_policy(tasks, policy, parallel_episodes=False)
    optimizer = optax.adam(3e-4) if optimizer is None else optimizer
    encoder = MLP(2 * latent_size, encoder_hidden_sizes)
    critic = MLP(num_actions or 1, hidden_sizes)

    def features(steps):
        """Makes transitions vectors `[..., D]`."""
        action = steps.action
        if num_actions:
            action = jax.nn.one_hot(action, num_actions)
        reward = steps.reward[..., None]
        return jnp.concatenate([steps.obs, action, reward, steps.next_obs], axis=-1)

    def infer(params, belief, steps, mask):
        """Updates a belief by transitions `[L, ...]`."""
        mean, raw = jnp.split(encoder.apply(params, features(steps)), 2, axis=-1)
        # Weak at first, so that a long context does not begin as a certainty.
        return belief.update(mean, jax.nn.softplus(raw - 5.0), mask)

    def smaller_q(critics, obs, z):
        """Returns `(action) -> min_i Q_i` at states `[B]`."""
        return lambda action: jnp.minimum(*q_values(critics, obs, z, action))

    def q_values(critics, obs, z, action):
        """Returns both Q `[B]`; of every discrete action, `[B, A]`, if it is None."""
        x = [obs, jnp.broadcast_to(z, (*obs.shape[:-1], latent_size))]
        if not num_actions:
            x.append(action)
        x = jnp.concatenate(x, axis=-1)
        q = [critic.apply(params, x) for params in critics]
        if not num_actions:
            return [value[..., 0] for value in q]
        if action is None:
            return q
        index = action[..., None]
        return [jnp.take_along_axis(value, index, -1)[..., 0] for value in q]

    def act(params, obs, z):
        memory = prior(latent_size)._replace(z=z)
        return policy.apply(params, memory, obs)[0]

    def shown(task, trajectories):
        """Returns trajectories `[E, T, ...]` as the encoder is to see them."""
        if context_reward is None:
            return trajectories
        reward = jax.vmap(partial(context_reward, task))(trajectories)
        return trajectories._replace(reward=reward)

    def adapt(key, agent, trajectories):
        del key
        steps, mask = _transitions(trajectories)
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        belief = infer(agent.params["encoder"], agent.memory, flat, mask.ravel())
        return agent._replace(memory=belief)

    def trial(key, agent, task):
        """Acts as on a new task: E episodes, each followed by inference."""

        def one_episode(agent, key):
            agent, trajectory = rollout.collect(
                key, tasks, policy, agent, task, num_episodes=1
            )
            seen = shown(task, trajectory)
            return adapt(key, agent, seen), (trajectory, seen)

        episodes = jax.lax.scan(
            one_episode, agent, jax.random.split(key, num_episodes)
        )[1]
        return jax.tree.map(lambda x: x[:, 0], episodes)

    def remember(key, agent, task_batch, chosen, replay, context):
        """Acts a trial in some tasks and writes it down in both buffers."""
        num_chosen = chosen.shape[0]
        trajectories, seen = jax.vmap(partial(trial, agent=agent))(
            jax.random.split(key, num_chosen), task=task_batch
        )
        steps, mask = jax.tree.map(
            lambda x: x.reshape(num_chosen, -1, *x.shape[3:]),
            _transitions(trajectories),
        )
        replay = replay_buffer.add(replay, chosen, steps, mask)
        context = jax.tree.map(
            lambda old, new: old.at[chosen].set(new),
            context,
            Context(*_transitions(seen)),
        )
        returns = jnp.mean(rollout.episode_returns(trajectories), axis=0)
        return replay, context, returns

    def init(key):
        key_tasks, key_actor, key_encoder, key_critics, key_trials = jax.random.split(
            key, 5
        )
        task_batch = jax.vmap(tasks.sample)(
            jax.random.split(key_tasks, num_train_tasks)
        )
        one_task = jax.tree.map(lambda x: x[0], task_batch)
        memory = policy.initial_memory()
        obs, _ = tasks.env.reset_env(key, one_task)
        action = tasks.env.action_space(one_task).sample(key)
        step = Transition(
            obs, action, jnp.zeros(()), obs, jnp.zeros((), bool)
        )
        q_input = [obs, memory.z] if num_actions else [obs, memory.z, action]
        critics = tuple(
            critic.init(k, jnp.concatenate(q_input))
            for k in jax.random.split(key_critics)
        )
        params = {
            **policy.init(key_actor, memory, obs),
            "encoder": encoder.init(key_encoder, features(step)),
            "critics": critics,
            "log_temperature": jnp.log(jnp.asarray(temperature, jnp.float32)),
        }
        agent = Agent({k: params[k] for k in ("actor", "encoder")}, memory)
        ring = replay_buffer.empty(
            step, num_tasks=num_train_tasks, capacity=capacity
        )
        shape = (num_train_tasks, num_episodes, tasks.horizon)
        context = Context(
            jax.tree.map(lambda x: jnp.zeros((*shape, *x.shape), x.dtype), step),
            jnp.zeros(shape, bool),
        )
        replay, context, _ = remember(
            key_trials, agent, task_batch, jnp.arange(num_train_tasks), ring, context
        )
        return PEARLState(
            agent,
            critics,
            params["log_temperature"],
            critics,
            optimizer.init(params),
            task_batch,
            replay,
            context,
        )

    def loss(params, target_critics, key, steps, context):
        """The loss of one task: transitions `[B, ...]`, contexts `[L, ...]`."""
        key_z, key_target, key_actor = jax.random.split(key, 3)
        frozen = jax.lax.stop_gradient(params)
        belief = infer(params["encoder"], prior(latent_size), *context)
        z = belief.sample(key_z).z
        fixed_z = jax.lax.stop_gradient(z)
        alpha = jnp.exp(frozen["log_temperature"])

        next_value, _ = soft_value(
            key_target,
            act(frozen, steps.next_obs, fixed_z),
            smaller_q(target_critics, steps.next_obs, fixed_z),
            alpha,
        )
        target = td_target(
            steps.reward, steps.terminated, next_value, discount=discount
        )
        # The encoder learns here, through z.
        q = q_values(params["critics"], steps.obs, z, steps.action)
        critic_loss = sum(jnp.mean((value - target) ** 2) for value in q)
        kl = belief.kl_from_prior()

        value, entropy = soft_value(
            key_actor,
            act(params, steps.obs, fixed_z),
            smaller_q(frozen["critics"], steps.obs, fixed_z),
            alpha,
        )
        total = critic_loss + kl_coeff * kl - jnp.mean(value)
        if target_entropy is not None:
            excess = jax.lax.stop_gradient(jnp.mean(entropy)) - target_entropy
            total += params["log_temperature"] * excess
        terms = (critic_loss, jnp.mean(q[0]), jnp.mean(entropy), alpha, kl)
        return total, terms

    def step(key, state):
        """One meta-training step."""
        key_choice, key_trials, key_updates = jax.random.split(key, 3)
        chosen = jax.random.choice(
            key_choice, num_train_tasks, (num_tasks,), replace=False
        )
        replay, context, episode_returns = remember(
            key_trials,
            state.agent,
            jax.tree.map(lambda x: x[chosen], state.tasks),
            chosen,
            state.replay,
            state.context,
        )

        def update(learned, key):
            key_choice, key_length, key_steps, key_loss = jax.random.split(key, 4)
            task = jax.random.randint(key_choice, (num_tasks,), 0, num_train_tasks)
            steps = jax.vmap(
                partial(replay_buffer.sample, batch_size=batch_size),
                in_axes=(0, None, 0),
            )(jax.random.split(key_steps, num_tasks), replay, task)
            seen, mask = jax.tree.map(lambda x: x[task], context)
            length = jax.random.randint(key_length, (num_tasks,), 1, num_episodes + 1)
            mask &= (jnp.arange(num_episodes) < length[:, None])[..., None]
            seen, mask = jax.tree.map(
                lambda x: x.reshape(num_tasks, -1, *x.shape[3:]), (seen, mask)
            )

            def mean_loss(params):
                total, terms = jax.vmap(partial(loss, params, learned.target_critics))(
                    jax.random.split(key_loss, num_tasks), steps, (seen, mask)
                )
                return jnp.mean(total), jax.tree.map(jnp.mean, terms)

            gradient, terms = jax.grad(mean_loss, has_aux=True)(learned.params)
            updates, optimizer_state = optimizer.update(
                gradient, learned.optimizer_state, learned.params
            )
            params = optax.apply_updates(learned.params, updates)
            targets = optax.incremental_update(
                params["critics"], learned.target_critics, target_rate
            )
            learned = Learned(params, targets, optimizer_state)
            return learned, (*terms, optax.tree.norm(gradient))

        params = {
            **state.agent.params,
            "critics": state.critics,
            "log_temperature": state.log_temperature,
        }
        before = Learned(params, state.target_critics, state.optimizer_state)
        learned, terms = jax.lax.scan(
            update, before, jax.random.split(key_updates, num_updates)
        )
        finite = jnp.all(jnp.isfinite(terms[-1]))
        learned = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), learned, before
        )
        new_state = PEARLState(
            state.agent._replace(
                params={k: learned.params[k] for k in ("actor", "encoder")}
            ),
            learned.params["critics"],
            learned.params["log_temperature"],
            learned.target_critics,
            learned.optimizer_state,
            state.tasks,
            replay,
            context,
        )
        return new_state, PEARLInfo(
            episode_returns[0],
            episode_returns[-1],
            episode_returns,
            *jax.tree.map(jnp.mean, terms),
            ~finite,
        )

    return MetaAlgorithm(init, step, adapt, policy)


def _transitions(trajectories: Trajectory) -> tuple[Transition, jax.Array]:
    """Keeps what matters of trajectories, and which of their steps were taken."""
    fields = {name: getattr(trajectories, name) for name in Transition._fields}
    # What is not finite would be drawn again and again.
    mask = trajectories.mask & jnp.isfinite(trajectories.reward)
    return Transition(**fields), mask


def _check_actor(tasks: TaskDistribution, policy: Policy) -> int | None:
    """Returns the number of discrete actions, None if they are continuous."""
    del policy
    space = tasks.env.action_space(tasks.sample(jax.random.key(0)))
    return int(space.n) if isinstance(space, spaces.Discrete) else None
