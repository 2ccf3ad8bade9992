"""RL²: a policy with memory that learns to learn, and E-RL².

Maximises the return of a whole trial of E episodes of one task,

    I(θ) = E_task E_{τ ~ π_θ} [ Σ_t γ^t r_t ],    t = 1 … E T,

with the policy's memory, which sees actions and rewards, carried through the episode
ends: whatever it infers about the task is its adaptation (Duan et al. 2016, arXiv
1611.02779; Wang et al. 2016, arXiv 1611.05763). E-RL² leaves the first episodes out of
the sum, so that they are worth what they teach and nothing else (Stadie et al. 2018,
arXiv 1803.01118). The update is PPO's (Schulman et al. 2017, arXiv 1707.06347) or a
trust region's.

The critic may be told the task, which the policy never is (asymmetric actor-critic,
Pinto et al. 2018, arXiv 1710.06542): V(h_t, t, μ) of what is remembered, h_t, and the
task μ. Actions depend on the history alone, so that it is as unbiased a baseline and a
bootstrap as V(h_t) (Baisero & Amato 2022, arXiv 2105.11674); what it takes out is that
tasks differ in what they pay. And where a world tells E[r_t | μ, o_t, a_t], advantages
may be made of that instead of r_t, which the memory sees all the same: no action up to
then depends on the difference, so that gradients have the same mean, and less noise.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import returns, rollout, surrogates, trials, trust_region, updates
from metarl_jax.batching import map_tasks, sum_over_groups
from metarl_jax.policies.memory import MemoryPolicy
from metarl_jax.trust_region import TrustRegion, check_outer_optimizer
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
    check_at_least,
    check_batch,
    check_critic,
    check_divides,
    check_flags,
    check_fraction,
    check_functions,
    check_key,
    check_methods,
    check_not_negative,
    check_optimizers,
    check_policy,
    check_positive,
    check_remembers,
    first_values,
    has_memory,
    reason,
    shown,
    trajectory,
)

# Trials that are acted in at once, for each whose gradient is computed at once: acting
# keeps a state of a trial, a gradient all of its steps.
ACTING = 16


class RL2State(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    critic: Params
    optimizer_state: Any
    step: jax.Array  # [] int32, meta-training steps taken


class RL2Info(NamedTuple):
    """What a person plots. `[]` unless said otherwise; means over tasks."""

    return_before: jax.Array  # of the first episode
    return_after: jax.Array  # of the last
    episode_returns: jax.Array  # [E]
    gradient_norm: jax.Array  # of the loss in the first minibatch
    entropy: jax.Array  # of the policy that acted, or nearly
    kl: jax.Array  # mean KL(π_θold ‖ π_θ) that the last epoch met
    clip_fraction: jax.Array  # of ratios outside 1 ± ε in the last epoch
    explained_variance: jax.Array  # of the returns to go, by the value
    accepted: jax.Array  # bool, the update was taken: no line search refused it
    skipped: jax.Array


class Batch(NamedTuple):
    """Trials, ready for the loss. Constants; leaves `[N, L, ...]`."""

    steps: Trajectory
    old: Distribution  # of the policy that acted
    advantage: jax.Array
    target: jax.Array  # of the value: what it was, plus the advantage
    told: jax.Array | tuple[()]  # [N, F] of the task, where the critic is told


class Terms(NamedTuple):
    """Means over the valid steps of a batch. All `[]`."""

    gain: jax.Array
    entropy: jax.Array
    # [V] squared error of each value, relative to the returns' variance: that of which
    # advantages are made, and the policy's own where it is another.
    unexplained: jax.Array
    kl: jax.Array
    clip_fraction: jax.Array


def rl2(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    critic: Policy | None = None,
    critic_sees: Callable[[Task], jax.Array] | None = None,
    num_tasks: int = 128,
    num_episodes: int = 2,
    num_exploration_episodes: int = 0,
    num_epochs: int = 4,
    num_minibatches: int = 2,
    outer_optimizer: optax.GradientTransformation | TrustRegion | None = None,
    critic_optimizer: optax.GradientTransformation | None = None,
    clip_range: float | jax.Array = 0.2,
    value_coeff: float | jax.Array = 0.5,
    entropy_coeff: float | jax.Array | optax.Schedule = 0.01,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array | optax.Schedule = 0.95,
    expected_rewards: bool = False,
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds RL² for a task distribution and any policy.

    Adaptation is what the policy's memory does; `adapt` is the identity.

    Args:
      tasks: the task distribution.
      policy: how the agent acts, with memory; its own value is the critic unless one is
        given.
      critic: a policy of its own parameters whose value is used; it may have memory.
      critic_sees: `(task) -> [F]`, what the critic is told. It is then one without
        memory, such as `MLPPolicy(num_actions=1, value_head=True)`, that sees H + F + 1
        numbers: what the policy's memory recalls, which it does not move, these, and
        how much of the trial is over. The policy's own value is learned beside it, as
        that is what teaches a memory to hold what returns depend on.
      num_tasks: N, trials in a meta-training step, each of another task.
      num_episodes: E, episodes of a trial.
      num_exploration_episodes: how many of them, from the first, are left out of the
        objective; above 0 it is E-RL².
      num_epochs: passes through one step's data.
      num_minibatches: updates in a pass. A minibatch is made of whole trials.
      outer_optimizer: an optax transformation, which makes it PPO, or a `TrustRegion`,
        which takes one step for all of the data; default
        `metarl_jax.updates.clipped_adam()`.
      critic_optimizer: for a critic of its own; default the same as the default above.
      clip_range: ε, a ratio has no gradient beyond 1 ± ε. A trust region ignores it.
      value_coeff: weight of the squared value error, relative to the variance of what
        is predicted.
      entropy_coeff: weight of the policy's entropy; or a schedule of it, a function of
        the meta-training steps taken.
      discount: γ, per step, across episode ends.
      gae_lambda: λ, likewise; or a schedule of it. The lower, the less noise, and the
        more is credited by what the critic says of what an action taught the agent.
      expected_rewards: whether advantages are made of the family's `expected_reward`.
      task_group_size: trials whose gradients are computed under one `vmap`, one group
        of a minibatch after the other (`metarl_jax.batching`); None for all. The sums
        are the same.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1 or `num_exploration_episodes` not in [0, E),
        `num_minibatches` does not divide `num_tasks`, γ or λ is not in [0, 1],
        `clip_range` is not above 0, a trust region has no critic beside it, the policy
        does not fit the action space, a critic is to be told the task that cannot be,
        or the family does not tell expected rewards that are to be used.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
    )
    check_fraction(discount=discount, **first_values(gae_lambda=gae_lambda))
    check_above_zero(clip_range=clip_range)
    check_not_negative(
        value_coeff=value_coeff, **first_values(entropy_coeff=entropy_coeff)
    )
    check_outer_optimizer(outer_optimizer)
    check_optimizers(critic_optimizer=critic_optimizer)
    check_at_least(0, num_exploration_episodes=num_exploration_episodes)
    check_policy(tasks, policy, parallel_episodes=False)
    check_remembers(policy, "RL²")
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    if critic_sees is not None:
        _check_told(tasks, policy, critic, critic_sees)
    elif critic is not None:
        check_policy(tasks, critic, parallel_episodes=False)
        check_critic(tasks, critic)
    if critic is None or critic_sees is not None:
        check_critic(tasks, policy)
    check_flags(expected_rewards=expected_rewards)
    if expected_rewards:
        _check_expected(tasks, policy)
    check_divides(num_tasks, num_minibatches=num_minibatches)
    if task_group_size is not None:
        check_positive(task_group_size=task_group_size)
    check_positive(trials_of_all_epochs=num_epochs * num_tasks)
    if num_exploration_episodes >= num_episodes:
        raise ValueError(
            f"num_exploration_episodes must leave one of {num_episodes} episodes; got "
            f"{num_exploration_episodes}"
        )
    if isinstance(outer_optimizer, TrustRegion) and critic is None:
        raise ValueError(
            "a TrustRegion moves no value head; a critic of its own is required, got "
            "None"
        )
    default = updates.clipped_adam()
    if isinstance(outer_optimizer, TrustRegion):
        surrogate = surrogates.likelihood_ratio
        # The gradient steps are then the critic's alone.
        policy_optimizer = optax.set_to_zero()
    else:
        surrogate = surrogates.clipped(clip_range)
        policy_optimizer = default if outer_optimizer is None else outer_optimizer
    critic_optimizer = default if critic_optimizer is None else critic_optimizer
    optimizer = optax.partition(
        {"policy": policy_optimizer, "critic": critic_optimizer},
        {"policy": "policy", "critic": "critic"},
    )

    def init(key):
        check_key(key)
        *_, key_policy, key_critic = jax.random.split(key, 4)
        obs, memory = tasks.blank(), policy.initial_memory()
        params = {"policy": policy.init(key_policy, memory, obs), "critic": ()}
        if critic_sees is not None:
            seen = _example(tasks, policy, critic_sees)
            params["critic"] = critic.init(key_critic, (), seen)  # pyright: ignore
        elif critic is not None:
            params["critic"] = critic.init(key_critic, critic.initial_memory(), obs)
        return RL2State(
            Agent(params["policy"], memory),
            params["critic"],
            optimizer.init(params),
            jnp.zeros((), jnp.int32),
        )

    def replay(params, steps, told, group_size=None):
        """Returns the distributions and values `[N, L]` along trials `[N, L, ...]`."""

        def one_trial(steps, told):
            if critic_sees is not None:
                return _replay_told(policy, critic, params, steps, told)
            distribution, value = trials.replay(policy, params["policy"], None, steps)
            if critic is not None:
                _, value = trials.replay(critic, params["critic"], None, steps)
            return distribution, (value,)

        return map_tasks(one_trial, group_size=group_size)(steps, told)

    def prepare(params, trajectories, task_batch, step):
        """Makes trajectories `[N, E, T, ...]` a batch."""
        told = () if critic_sees is None else jax.vmap(critic_sees)(task_batch)
        steps = paid = jax.vmap(trials.stream)(trajectories)
        if expected_rewards:
            of_task = jax.vmap(tasks.expected_reward, (None, 0))  # pyright: ignore
            reward = jax.vmap(of_task)(task_batch, trajectories)
            reward = jnp.where(trajectories.mask, reward, 0.0)
            reward = reward.astype(trajectories.reward.dtype)
            paid = jax.vmap(trials.stream)(trajectories._replace(reward=reward))
        old, (value, *_) = replay(params, steps, told, task_group_size)
        advantage = jax.vmap(
            partial(
                trials.advantages,
                discount=discount,
                gae_lambda=updates.at_step(step, gae_lambda),
                num_exploration_episodes=num_exploration_episodes,
            )
        )(paid, value)
        normalised = returns.normalise(advantage, steps.mask)
        return Batch(steps, old, normalised, value + advantage, told)

    def evaluate(params, batch, whole):
        """Returns the `Terms` of a batch, as its share in those of the whole one."""
        steps = batch.steps
        distribution, values = replay(params, steps, batch.told)
        log_prob = distribution.log_prob(steps.action)
        gain = jax.vmap(surrogate)(
            log_prob, steps.log_prob, steps.reward, batch.advantage, steps.mask
        )
        count = jnp.sum(whole.steps.mask, dtype=gain.dtype)
        mean = partial(returns.share_of_mean, mask=steps.mask, whole=whole.steps.mask)
        # Relative to the returns' variance: in their own units the value's gradient
        # would drown the policy's wherever a trial returns much more than 1.
        error = jnp.stack([mean((value - batch.target) ** 2) for value in values])
        variance = returns.variance(whole.target, whole.steps.mask)
        outside = jnp.abs(jnp.exp(log_prob - steps.log_prob) - 1.0) > clip_range
        outside = outside.astype(gain.dtype)
        return Terms(
            jnp.sum(gain) / count,
            mean(distribution.entropy()),
            error / (variance + 1e-8),
            mean(batch.old.kl(distribution)),
            mean(outside),
        )

    def loss(params, batch, whole, entropy_weight):
        terms = evaluate(params, batch, whole)
        objective = terms.gain + entropy_weight * terms.entropy
        return value_coeff * jnp.sum(terms.unexplained) - objective, terms

    def natural_step(params, batch, entropy_weight, region):
        """Moves the policy alone, by one trust-region step."""

        def objective(theta):
            terms = evaluate({**params, "policy": theta}, batch, batch)
            return terms.gain + entropy_weight * terms.entropy, terms.kl

        def distribution(theta):
            return replay({**params, "policy": theta}, batch.steps, batch.told)[0]

        theta = params["policy"]
        (value, _), gradient = jax.value_and_grad(objective, has_aux=True)(theta)
        theta, info = trust_region.trust_region_step(
            theta,
            value,
            gradient,
            partial(
                trust_region.fisher_vector_product,
                distribution,
                theta,
                batch.steps.mask,
            ),
            objective,
            region,
        )
        return {**params, "policy": theta}, info

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_collect, key_shuffle = jax.random.split(key, 3)
        params: Any = {"policy": state.agent.params, "critic": state.critic}
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))

        # Not `rollout.collect_tasks`: all act with the same parameters, so that a
        # matrix product serves all of them.
        def collect(key, task):
            return rollout.collect(
                key, tasks, policy, state.agent, task, num_episodes=num_episodes
            )[1]

        together = task_group_size and ACTING * task_group_size
        trajectories = map_tasks(collect, group_size=together)(
            jax.random.split(key_collect, num_tasks), task_batch
        )
        batch = prepare(params, trajectories, task_batch, state.step)
        weight = updates.at_step(state.step, entropy_coeff)
        accepted, step_norm = jnp.asarray(True), ()
        if isinstance(outer_optimizer, TrustRegion):
            params, moved = natural_step(params, batch, weight, outer_optimizer)
            accepted, step_norm = moved.accepted, moved.step_norm

        def update(carry, index):
            params, optimizer_state = carry
            minibatch = jax.tree.map(lambda x: x[index], batch)

            def of_group(batch):
                return jax.value_and_grad(loss, has_aux=True)(
                    params, batch, minibatch, weight
                )

            (value, terms), gradient = sum_over_groups(
                of_group, group_size=task_group_size
            )(minibatch)
            carry = updates.descend(optimizer, optimizer_state, params, gradient, value)
            return carry, (optax.tree.norm(gradient), terms)

        order = jax.vmap(partial(jax.random.permutation, x=num_tasks))(
            jax.random.split(key_shuffle, num_epochs)
        )
        (params, optimizer_state), (gradient_norms, terms) = jax.lax.scan(
            update,
            (params, state.optimizer_state),
            order.reshape(num_epochs * num_minibatches, -1),
        )
        new_state = RL2State(
            state.agent._replace(params=params["policy"]),
            params["critic"],
            optimizer_state,
            state.step + 1,
        )
        new_state, skipped = updates.keep_finite(
            new_state,
            state,
            (batch.steps.reward, batch.advantage, gradient_norms, step_norm),
        )
        episode_returns = jnp.mean(rollout.episode_returns(trajectories), axis=0)
        last = jax.tree.map(lambda x: jnp.mean(x[-num_minibatches:]), terms)
        return new_state, RL2Info(
            episode_returns[0],
            episode_returns[-1],
            episode_returns,
            gradient_norms[0],
            terms.entropy[0],
            last.kl,
            last.clip_fraction,
            1.0 - terms.unexplained[0, 0],
            accepted & ~skipped,
            skipped,
        )

    return MetaAlgorithm(init, step, lambda key, agent, trajectories: agent, policy)


def _replay_told(policy: Any, critic: Any, params, steps, told):
    """Returns a trial's distributions, and the critic's values and the policy's own."""
    obs, recalled = policy.recall(params["policy"], None, steps)
    head = {"params": params["policy"]["params"]["head"]}
    distribution, own, _ = policy.head.apply(head, obs, recalled)
    value = critic.apply(params["critic"], (), _seen(recalled, told))[1]
    return distribution, (value, own)


def _seen(recalled: jax.Array, told: jax.Array) -> jax.Array:
    """Returns what a critic sees that is told the task, along a trial."""
    length = len(recalled)
    return jnp.hstack(
        [
            jax.lax.stop_gradient(recalled),
            jnp.broadcast_to(told, (length, *told.shape)),
            jnp.arange(length, dtype=recalled.dtype)[:, None] / length,
        ]
    )


def _example(tasks, policy, critic_sees) -> jax.Array:
    """Returns zeros of what a critic sees that is told the task, `[H + F + 1]`."""

    def seen(key):
        params = policy.init(key, policy.initial_memory(), tasks.blank())
        step = jax.tree.map(
            lambda x: jnp.zeros((1, *x.shape), x.dtype), trajectory(tasks, policy)
        )
        recalled = policy.recall(params, None, step)[1]
        return _seen(recalled, critic_sees(tasks.sample(key)))[0]

    return jnp.zeros(jax.eval_shape(seen, jax.random.key(0)).shape)


def _check_told(tasks, policy, critic, critic_sees) -> None:
    """Raises a `ValueError` unless a critic can be told the task."""
    check_functions(critic_sees=critic_sees)
    told = _made(tasks, "critic_sees", critic_sees)
    if not isinstance(policy, MemoryPolicy):
        raise ValueError(
            "a critic that is told the task reads what a MemoryPolicy recalls; got "
            f"{type(policy).__name__}"
        )
    if not isinstance(told, jax.ShapeDtypeStruct) or len(told.shape) != 1:
        raise ValueError(f"critic_sees must make a vector of a task; got {told}")
    if critic is None or has_memory(critic):
        raise ValueError(
            "a critic that is told the task must be given, without a memory of its "
            f"own; got {shown(critic)}"
        )
    check_methods(critic)


def _check_expected(tasks, policy) -> None:
    """Raises a `ValueError` unless a family tells expected rewards of an episode."""
    if tasks.expected_reward is None:
        raise ValueError(
            "expected_rewards needs a family that tells them, as bandits do; got "
            f"{tasks.env.name}"
        )
    episode = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((tasks.horizon, *x.shape), x.dtype),
        trajectory(tasks, policy),
    )
    made = _made(tasks, "expected_reward", tasks.expected_reward, episode)
    if jax.tree.map(jnp.shape, made) != (tasks.horizon,):
        raise ValueError(
            f"expected_reward must make [{tasks.horizon}] numbers of an episode; got "
            f"{made}"
        )


def _made(tasks, name, function, *inputs) -> Any:
    """Returns what a function makes of a task, as shapes.

    Raises:
      ValueError: if it cannot be called so.
    """
    task = jax.eval_shape(tasks.sample, jax.random.key(0))
    try:
        return jax.eval_shape(function, task, *inputs)
    except Exception as error:
        raise ValueError(
            f"{name} must be a function of a task of {tasks.env.name}; got "
            f"{reason(error)}"
        ) from error
