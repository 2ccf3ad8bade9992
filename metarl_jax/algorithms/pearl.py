"""PEARL: off-policy actor-critic and posterior sampling over what the task may be.

Maximises, over tasks and over what has been seen of them, the entropy-regularised
return of a policy that is told a sample z of the belief about the task,

    I(θ) = E_task E_c E_{z ~ q_φ(z|c)} E_{π_θ(·|o,z)} [ Σ_t γ^t (r_t + α H(π_θ)) ],

where the belief after a context c of transitions is, whatever their order, the product

    q_φ(z|c) ∝ N(z; 0, 1) Π_n N(z; μ_φ(c_n), 1 / λ_φ(c_n))

(Rakelly et al. 2019, arXiv 1903.08254). The encoder φ learns from the temporal
differences of the critics and from KL(q ‖ N(0, 1)); for the actor z is data. To adapt
is to infer: z is drawn from the belief at the start of an episode and acted by until
its end, and the belief is updated by what happened then.

Different from the authors' code: the prior is one of the factors, so that an empty
context is no exception; the encoder sees the next observation too, as in the paper;
two Q functions have target copies and there is no V (`metarl_jax.soft_actor_critic`);
contexts may be those of a trial so far (`trial_fraction`), which are what there is to
infer from in a new task, beginning with nothing; and the first experience is that of
random actions which are kept up for some steps, as others do not meet a sparse reward.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import replay_buffer, rollout, soft_actor_critic, spaces, updates
from metarl_jax.batching import map_tasks
from metarl_jax.memory import check_fits, num_bytes
from metarl_jax.policies.cnn import image_encoder
from metarl_jax.policies.latent import LatentPolicy, prior
from metarl_jax.policies.mlp import MLP
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.replay_buffer import Placed, ReplayBuffer
from metarl_jax.soft_actor_critic import TwinCritic
from metarl_jax.spaces import join
from metarl_jax.types import (
    Agent,
    MetaAlgorithm,
    Params,
    Policy,
    Task,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import (
    check_above_zero,
    check_appended,
    check_batch,
    check_finite,
    check_fraction,
    check_functions,
    check_key,
    check_methods,
    check_not_negative,
    check_optimizers,
    check_policy,
    check_positive,
    check_sizes,
    check_tasks,
    has_memory,
    trajectory,
)

# Of log λ, or nearly: at first a context of a hundred steps weighs as much as the
# prior; with a λ of about 1 each, it would begin as a certainty about nothing.
_INITIAL_PRECISION = -5.0


class Learned(NamedTuple):
    """What an update changes, in the course of a meta-training step."""

    params: dict[str, Any]  # "actor", "encoder", "critic", "log_temperature"
    target_critic: Params
    optimizer_state: Any


class PEARLState(NamedTuple):
    """What the next meta-training step needs.

    The agent's `params` are `{"actor": θ, "encoder": φ}`, its `memory` a `Belief`.
    """

    agent: Agent
    critic: Params
    log_temperature: jax.Array
    target_critic: Params
    optimizer_state: Any
    tasks: Task  # [M] the meta-training tasks
    replay: ReplayBuffer  # what actor and critic learn from
    recent: ReplayBuffer  # what contexts are made of


class PEARLInfo(NamedTuple):
    """What a person plots. `[]` unless said otherwise; means over tasks and updates."""

    return_before: jax.Array  # of the first episode of a trial
    return_after: jax.Array  # of the last
    episode_returns: jax.Array  # [E]
    critic_loss: jax.Array
    q: jax.Array  # of the steps in the replay buffer
    entropy: jax.Array  # of the policy there
    temperature: jax.Array
    kl: jax.Array  # KL(q_φ(z|c) ‖ N(0, 1)) in nats
    gradient_norm: jax.Array
    num_dropped: jax.Array  # steps just taken, left out for not being finite
    skipped: jax.Array


def pearl(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 16,
    num_episodes: int = 3,
    num_train_tasks: int = 100,
    num_initial_episodes: int = 10,
    num_updates: int = 20,
    batch_size: int = 256,
    context_size: int = 100,
    trial_fraction: float | jax.Array = 0.0,
    capacity: int = 10_000,
    recent_capacity: int = 1000,
    latent_size: int = 5,
    hidden_sizes: Sequence[int] = (300, 300, 300),
    encoder_hidden_sizes: Sequence[int] = (200, 200, 200),
    optimizer: optax.GradientTransformation | None = None,
    temperature: float | jax.Array = 0.2,
    target_entropy: float | None = None,
    kl_coeff: float | jax.Array = 0.064,
    discount: float | jax.Array = 0.99,
    target_rate: float | jax.Array = 0.005,
    context_reward: Callable[[Task, Trajectory], jax.Array] | None = None,
) -> MetaAlgorithm:
    """Builds PEARL for a task distribution and a policy without memory.

    `init` draws the meta-training tasks once and for all and acts at random in each. A
    meta-training step acts one trial in some of them, as on a new task, and then makes
    U updates. An update takes, of each of N tasks drawn from all, B steps from the
    replay buffer and, for the belief, L of the task's recent steps.

    Args:
      tasks: the task distribution.
      policy: the actor: how an agent acts that sees observation and z as one vector;
        the algorithm's own `policy` is this one inside a `LatentPolicy`. For continuous
        actions one with a `TanhDiagGaussian` (`mlp_policy(tasks, squashed=True)`).
      num_tasks: N, tasks that a meta-training step acts in, and tasks of an update.
      num_episodes: E, episodes of a trial.
      num_train_tasks: M, meta-training tasks.
      num_initial_episodes: random episodes in each of them.
      num_updates: U. The authors make 2000 after about 5000 steps of acting.
      batch_size: B.
      context_size: L.
      trial_fraction: how many of the contexts are what was known when one of the recent
        steps was taken: the episodes of its trial before its own, the first L steps of
        them. The others, with the authors all, are L steps drawn with replacement.
      capacity: steps of each task that the replay buffer holds.
      recent_capacity: how many of the last of them contexts are made of.
      latent_size: C, how long z is.
      hidden_sizes: of the critic.
      encoder_hidden_sizes: of the encoder.
      optimizer: of everything that is learned; default `optax.adam(3e-4)`.
      temperature: α. The authors multiply rewards by 5 instead, which is the same as an
        α of 1 / 5 and all squared errors times 25; with their 0.1 for each of 16 tasks
        that gives the default of `kl_coeff`.
      target_entropy: nats; where it is given, α is learned, beginning with
        `temperature`, so as to keep the policy's entropy there.
      kl_coeff: weight of KL(q ‖ N(0, 1)) beside the critic's squared errors.
      discount: γ.
      target_rate: how far the target critic moves towards the critic in an update.
      context_reward: `(task, trajectory) -> [T]`, what the encoder is shown for the
        reward in meta-training; None: the reward. For families whose held-out tasks
        have another reward than their meta-training tasks: it must be the former's.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, N > M, a buffer has no room for the episodes
        that are added at once, `temperature` is not above 0, a fraction, γ or
        `target_rate` is not in [0, 1], an observation is neither a vector nor an image,
        or the policy has memory, does not fit the action space or is not squashed into
        it.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_train_tasks=num_train_tasks,
        num_initial_episodes=num_initial_episodes,
        num_updates=num_updates,
        batch_size=batch_size,
        context_size=context_size,
        capacity=capacity,
        recent_capacity=recent_capacity,
        latent_size=latent_size,
    )
    check_fraction(
        trial_fraction=trial_fraction,
        discount=discount,
        target_rate=target_rate,
    )
    check_sizes(hidden_sizes=hidden_sizes, encoder_hidden_sizes=encoder_hidden_sizes)
    check_above_zero(temperature=temperature, target_rate=target_rate)
    check_not_negative(kl_coeff=kl_coeff)
    if target_entropy is not None:
        check_finite(target_entropy=target_entropy)
    if context_reward is not None:
        check_functions(context_reward=context_reward)
    check_optimizers(optimizer=optimizer)
    check_tasks(tasks)
    check_methods(policy)
    if num_tasks > num_train_tasks:
        raise ValueError(
            f"num_tasks must be at most num_train_tasks; got {num_tasks} and "
            f"{num_train_tasks}"
        )
    num_steps = max(num_episodes, num_initial_episodes) * tasks.horizon
    for name, size in (("capacity", capacity), ("recent_capacity", recent_capacity)):
        if size < num_steps:
            raise ValueError(
                f"{name} must be at least the {num_steps} steps that are added at "
                f"once; got {size}"
            )
    num_actions = _check_actor(tasks, policy, latent_size)
    actor, policy = policy, LatentPolicy(policy, latent_size)
    images = image_encoder(tasks)
    network = MLP(num_actions or 1, hidden_sizes, encoder=images)
    critic = TwinCritic(network, num_actions)
    encoder: Any = MLP(2 * latent_size, encoder_hidden_sizes, encoder=images)
    check_appended(tasks, actor, "sample of the belief", size=latent_size)
    check_batch(
        tasks,
        policy,
        num_tasks=num_train_tasks,
        num_episodes=num_initial_episodes,
    )
    check_positive(tasks_of_all_updates=num_updates * num_tasks)
    num_steps = num_tasks * (batch_size + context_size)
    check_fits(
        f"the steps of num_tasks={num_tasks}, batch_size={batch_size} and "
        f"context_size={context_size}",
        num_bytes(trajectory(tasks, policy)) * num_steps,
    )
    optimizer = optax.adam(3e-4) if optimizer is None else optimizer

    def features(steps):
        """Makes vectors, or images, of transitions."""
        action, reward = steps.action, steps.reward[..., None]
        if num_actions is not None:
            action = jax.nn.one_hot(action, num_actions)
        before = join(steps.obs, jnp.concatenate([action, reward], axis=-1))
        return jnp.concatenate([before, steps.next_obs], axis=-1)

    def infer(params, belief, steps, mask):
        """Updates a belief by transitions `[L, ...]`."""
        mean, raw = jnp.split(encoder.apply(params, features(steps)), 2, axis=-1)
        return belief.update(mean, jax.nn.softplus(raw + _INITIAL_PRECISION), mask)

    def adapt(key, agent, trajectories):
        del key
        steps, mask = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]),
            soft_actor_critic.transitions(trajectories),
        )
        belief = infer(agent.params["encoder"], agent.memory, steps, mask)
        return agent._replace(memory=belief)

    def shown(task, trajectories):
        """Returns trajectories `[E, T, ...]` with the reward that the encoder sees."""
        if context_reward is None:
            return trajectories
        reward = jax.vmap(partial(context_reward, task))(trajectories)
        return trajectories._replace(reward=reward)

    def trial(key, agent, task):
        """Acts as on a new task: E episodes `[E, T, ...]`, inference after each."""

        def one_episode(agent, key):
            agent, trajectories = rollout.collect(
                key, tasks, policy, agent, task, num_episodes=1
            )
            return adapt(key, agent, shown(task, trajectories)), trajectories

        keys = jax.random.split(key, num_episodes)
        trajectories = jax.lax.scan(one_episode, agent, keys)[1]
        return jax.tree.map(lambda x: x[:, 0], trajectories)

    def store(replay, recent, chosen, task_batch, trajectories):
        """Adds trajectories `[N, E, T, ...]` of the chosen tasks to both buffers.

        Returns both, and how many steps were not finite and left out of one of them.
        """

        def add(buffer, steps, mask):
            steps, mask = jax.tree.map(
                lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), (steps, mask)
            )
            return replay_buffer.add(buffer, chosen, steps, mask)

        seen, mask = soft_actor_critic.transitions(
            jax.vmap(shown)(task_batch, trajectories)
        )
        steps, usable = soft_actor_critic.transitions(trajectories)
        place = partial(replay_buffer.place, num_episodes=num_episodes)
        return (
            add(replay, steps, usable),
            add(recent, jax.vmap(place)(seen, mask), mask),
            jnp.sum(trajectories.mask & ~(usable & mask)),
        )

    def init(key):
        check_key(key)
        key_tasks, key_params, key_explore = jax.random.split(key, 3)
        key_actor, key_encoder, key_critic = jax.random.split(key_params, 3)
        task_batch = jax.vmap(tasks.sample)(
            jax.random.split(key_tasks, num_train_tasks)
        )
        explorer = PersistentRandomPolicy(tasks.action_space)

        def explore(key, task):
            return rollout.collect(
                key,
                tasks,
                explorer,
                Agent((), explorer.initial_memory()),
                task,
                num_episodes=num_initial_episodes,
            )[1]

        trajectories = jax.vmap(explore)(
            jax.random.split(key_explore, num_train_tasks), task_batch
        )
        step, _ = soft_actor_critic.transitions(
            jax.tree.map(lambda x: x[0, 0, 0], trajectories)
        )
        zero = jnp.zeros((), jnp.int32)
        replay, recent = (
            replay_buffer.empty(held, num_tasks=num_train_tasks, capacity=size)
            for held, size in (
                (step, capacity),
                (Placed(step, zero, zero), recent_capacity),
            )
        )
        replay, recent, _ = store(
            replay, recent, jnp.arange(num_train_tasks), task_batch, trajectories
        )

        belief = policy.initial_memory()
        critic_params = critic.init(key_critic, join(step.obs, belief.z), step.action)
        params = {
            **policy.init(key_actor, belief, step.obs),
            "encoder": encoder.init(key_encoder, features(step)),
            "critic": critic_params,
            "log_temperature": jnp.log(jnp.asarray(temperature, jnp.float32)),
        }
        learned = Learned(params, critic_params, optimizer.init(params))
        return pack(belief, learned, task_batch, replay, recent)

    def pack(belief, learned, *experience):
        """Makes a state of what was learned and what was seen."""
        params = dict(learned.params)
        rest = params.pop("critic"), params.pop("log_temperature")
        return PEARLState(Agent(params, belief), *rest, *learned[1:], *experience)

    def contexts(key, recent, task):
        """Draws what may have been seen of tasks `[N]`: steps `[N, L, ...]`, a mask.

        Steps from here and there nearly always hold some of the reward that was ever
        met. From those of a trial so far is learned what to believe while it is not.
        """
        key_kind, key_sample, key_prefix = jax.random.split(key, 3)
        sampled = replay_buffer.sample(key_sample, recent, task, size=context_size).step
        known, mask = replay_buffer.prefix(key_prefix, recent, task, size=context_size)
        as_trial = jax.random.bernoulli(key_kind, trial_fraction, task.shape)
        return jax.tree.map(
            lambda x, y: jax.vmap(jnp.where)(as_trial, x, y),
            (known, mask),
            (sampled, jnp.ones_like(mask)),
        )

    def loss(params, target_critic, key, steps, context):
        """The loss in one task, of steps `[B, ...]` and a context `[L, ...]`."""
        key_z, key_critic, key_actor = jax.random.split(key, 3)
        belief = infer(params["encoder"], prior(latent_size), *context)
        z = belief.sample(key_z).z
        alpha = jax.lax.stop_gradient(jnp.exp(params["log_temperature"]))
        # With z at its end an observation is a state. Through z the encoder learns from
        # the critic's loss; the actor's stops before it.
        steps = steps._replace(obs=join(steps.obs, z), next_obs=join(steps.next_obs, z))
        critic_loss, q = soft_actor_critic.critic_loss(
            key_critic,
            actor,
            params["actor"],
            critic,
            params["critic"],
            target_critic,
            steps,
            temperature=alpha,
            discount=discount,
        )
        actor_loss, entropy = soft_actor_critic.actor_loss(
            key_actor,
            actor,
            params["actor"],
            critic,
            params["critic"],
            steps.obs,
            temperature=alpha,
        )
        kl = belief.kl_from_prior()
        total = critic_loss + actor_loss + kl_coeff * kl
        if target_entropy is not None:
            excess = jax.lax.stop_gradient(entropy) - target_entropy
            total += params["log_temperature"] * excess
        return total, (critic_loss, q, entropy, alpha, kl)

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_trials, key_updates = jax.random.split(key, 3)
        chosen = jax.random.permutation(key_tasks, num_train_tasks)[:num_tasks]
        task_batch = jax.tree.map(lambda x: x[chosen], state.tasks)
        trajectories = map_tasks(lambda key, task: trial(key, state.agent, task))(
            jax.random.split(key_trials, num_tasks), task_batch
        )
        replay, recent, num_dropped = store(
            state.replay, state.recent, chosen, task_batch, trajectories
        )

        def update(learned, key):
            key_tasks, key_steps, key_context, key_loss = jax.random.split(key, 4)
            task = jax.random.randint(key_tasks, (num_tasks,), 0, num_train_tasks)
            steps = replay_buffer.sample(key_steps, replay, task, size=batch_size)
            context = contexts(key_context, recent, task)

            def mean_loss(params):
                one_task = partial(loss, params, learned.target_critic)
                keys = jax.random.split(key_loss, num_tasks)
                return jax.tree.map(jnp.mean, map_tasks(one_task)(keys, steps, context))

            (value, terms), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
                learned.params
            )
            params, optimizer_state = updates.descend(
                optimizer, learned.optimizer_state, learned.params, gradient, value
            )
            target_critic = optax.incremental_update(
                params["critic"], learned.target_critic, target_rate
            )
            learned = Learned(params, target_critic, optimizer_state)
            return learned, (*terms, optax.tree.norm(gradient))

        params = {
            **state.agent.params,
            "critic": state.critic,
            "log_temperature": state.log_temperature,
        }
        before = Learned(params, state.target_critic, state.optimizer_state)
        learned, terms = jax.lax.scan(
            update, before, jax.random.split(key_updates, num_updates)
        )
        terms: Any = jax.tree.map(jnp.mean, terms)
        # Of a task without a step to learn from zeros would be drawn.
        held = jnp.stack([replay.size, recent.size]) > 0
        learned, skipped = updates.keep_finite(
            learned, before, (terms, jnp.where(held, 0.0, jnp.nan))
        )
        returns = jnp.mean(rollout.episode_returns(trajectories), axis=0)
        return (
            pack(state.agent.memory, learned, state.tasks, replay, recent),
            PEARLInfo(
                returns[0],
                returns[-1],
                returns,
                *terms,
                num_dropped=num_dropped,
                skipped=skipped,
            ),
        )

    check_fits(
        f"the networks, and the buffers of num_train_tasks={num_train_tasks}, "
        f"capacity={capacity} and recent_capacity={recent_capacity},",
        num_bytes(jax.eval_shape(init, jax.random.key(0))),
    )
    return MetaAlgorithm(init, step, adapt, policy)


def _check_actor(
    tasks: TaskDistribution, policy: Policy, latent_size: int
) -> int | None:
    """Checks observations and the actor.

    Returns:
      The number of discrete actions; None if they are continuous.

    Raises:
      ValueError: as `pearl` says.
    """

    def act(key):
        obs, _ = tasks.reset(key, tasks.sample(key))
        if not isinstance(obs, jax.Array) or obs.ndim not in (1, 3):
            raise ValueError(
                "z is joined to the observation, which must be a vector or an image; "
                f"{tasks.env.name} observes {jax.tree.map(jnp.shape, obs)}"
            )
        joined = join(obs, jnp.zeros(latent_size))
        return policy.apply(policy.init(key, (), joined), (), joined)[0]

    if has_memory(policy):
        raise ValueError(
            f"{type(policy).__name__} has memory; what is known of a task is to be in "
            "z, and a policy without memory is required"
        )
    head = jax.eval_shape(act, jax.random.key(0))
    check_policy(tasks, LatentPolicy(policy, latent_size), parallel_episodes=False)
    num_actions = spaces.num_choices(tasks.action_space)
    if num_actions is None and not hasattr(head, "sample_and_log_prob"):
        raise ValueError(
            "continuous actions need a TanhDiagGaussian head, as "
            "mlp_policy(tasks, squashed=True) has; the policy's is a "
            f"{type(head).__name__}"
        )
    return num_actions
