"""VariBAD: a policy that acts on an inferred belief about its task.

Learns a belief q_t(m) = N(μ_t, diag σ_t²) over a latent task variable m from all that
was seen in a trial up to step t, by ascending the sum of the evidence lower bounds

    ELBO_t = E_{m ~ q_t} [ Σ_{t'} log p(r_{t'}, s_{t'+1} | m, s_{t'}, a_{t'}) ]
             - KL(q_t ‖ q_{t-1}),    q_{-1} = N(0, I),

in which t' runs over the whole trial, the past and the future; and a policy
π(a | s_t, μ_t, log σ_t) that maximises the return of a trial of E episodes, as RL² does
(Zintgraf et al. 2020, arXiv 1910.08348). The policy's update is PPO's (Schulman et al.
2017, arXiv 1707.06347).

The bounds are computed on the trials that the step has just collected. The authors keep
a buffer of old trials instead, for batches of 16 trials; what a trial says of its task
does not depend on who acted, so that fresh trials serve as well.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import returns, rollout, surrogates, trials, updates
from metarl_jax.batching import map_tasks, sum_over_groups
from metarl_jax.bonuses import Bonus
from metarl_jax.distributions import DiagGaussian
from metarl_jax.policies.belief import belief_policy, join_belief
from metarl_jax.policies.decoders import Decoder, transition_decoder
from metarl_jax.policies.memory import Core
from metarl_jax.policies.recurrent import GRU
from metarl_jax.spaces import join
from metarl_jax.types import (
    Agent,
    Distribution,
    Key,
    MetaAlgorithm,
    Params,
    Policy,
    TaskDistribution,
    Trajectory,
)
from metarl_jax.validation import (
    check_above_zero,
    check_appended,
    check_batch,
    check_critic,
    check_decoder,
    check_divides,
    check_flags,
    check_fraction,
    check_key,
    check_methods,
    check_not_negative,
    check_optimizers,
    check_policy,
    check_positive,
    first_values,
    has_memory,
)


class VariBADState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent
    critic: Params
    decoder: Params
    policy_optimizer_state: Any
    belief_optimizer_state: Any
    step: jax.Array  # [] int32, meta-training steps taken
    bonus: Any = ()


class VariBADInfo(NamedTuple):
    """What a person plots. `[]` unless said otherwise; means over tasks."""

    return_before: jax.Array  # of the first episode
    return_after: jax.Array  # of the last
    episode_returns: jax.Array  # [E]
    gradient_norm: jax.Array  # of the policy's loss in the first minibatch
    entropy: jax.Array  # of the policy that acted, or nearly
    kl: jax.Array  # mean KL(π_θold ‖ π_θ) that the last epoch met
    clip_fraction: jax.Array  # of ratios outside 1 ± ε in the last epoch
    explained_variance: jax.Array  # of the returns to go, by the value
    log_likelihood: jax.Array  # of a whole trial, by the belief of one of its steps
    information: jax.Array  # KL(q_t ‖ q_{t-1}), what one step teaches; both in nats
    skipped: jax.Array
    bonus: Any = ()  # the info of what is added to rewards


class Batch(NamedTuple):
    """Trials, ready for the policy's loss. Constants; leaves `[N, L, ...]`."""

    steps: Trajectory
    belief: DiagGaussian  # that was acted on
    old: Distribution  # of the policy that acted
    advantage: jax.Array
    target: jax.Array  # of the value: what it was, plus the advantage


class PolicyTerms(NamedTuple):
    """Means over the valid steps of a batch. All `[]`."""

    entropy: jax.Array
    unexplained: jax.Array  # squared value error, relative to the returns' variance
    kl: jax.Array
    clip_fraction: jax.Array


def evidence_lower_bounds(
    key: Key,
    beliefs: DiagGaussian,
    log_likelihood: Callable[[jax.Array], jax.Array],
    *,
    num_bounds: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Computes the two terms of the evidence lower bound of every step of one trial.

    The expectation is estimated by one reparameterised sample of each belief.

    Args:
      key: of the samples.
      beliefs: `[L + 1, D]`, before each step and after the last.
      log_likelihood: of the whole trial, under each of some latents: `[M, D] -> [M]`.
      num_bounds: of how many beliefs, drawn at random, the log-likelihood is computed;
        it is then the times as large that they are fewer, and that of the others zero.
        None for all.

    Returns:
      The log-likelihoods and the divergences KL(q_t ‖ q_{t-1}), each `[L + 1]`, in
      nats; ELBO_t is their difference.
    """
    first = jax.tree.map(lambda x: jnp.zeros_like(x[:1]), beliefs)
    before = jax.tree.map(lambda x, y: jnp.append(x, y[:-1], axis=0), first, beliefs)
    information = beliefs.kl(before)
    if num_bounds is None:
        return log_likelihood(beliefs.sample(key)), information
    key_which, key_sample = jax.random.split(key)
    some, which, scale = _drawn(key_which, beliefs, num_bounds)
    some = scale * log_likelihood(some.sample(key_sample))
    return jnp.zeros_like(information).at[which].set(some), information


def _drawn(key: Key, stream: Any, number: int) -> tuple[Any, jax.Array, float]:
    """Draws some of L entries without replacement.

    Args:
      key: consumed.
      stream: leaves `[L, ...]`.
      number: n of them.

    Returns:
      The entries, leaves `[n, ...]`; which they are, `[n]`; and L / n, by which a sum
      over them estimates that over all without bias.
    """
    length = jax.tree.leaves(stream)[0].shape[0]
    which = jax.random.permutation(key, length)[:number]
    return jax.tree.map(lambda x: x[which], stream), which, length / number


def varibad(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    core: Core | None = None,
    latent_size: int = 5,
    decoder: Decoder | None = None,
    critic: Policy | None = None,
    bonus: Bonus | None = None,
    num_tasks: int = 16,
    num_episodes: int = 4,
    num_epochs: int = 2,
    num_belief_epochs: int = 3,
    num_minibatches: int = 2,
    num_bounds: int | None = None,
    num_decoded: int | None = None,
    outer_optimizer: optax.GradientTransformation | None = None,
    belief_optimizer: optax.GradientTransformation | None = None,
    kl_coeff: float | jax.Array = 1.0,
    policy_moves_encoder: bool = False,
    clip_range: float | jax.Array = 0.05,
    value_coeff: float | jax.Array = 0.5,
    entropy_coeff: float | jax.Array | optax.Schedule = 0.01,
    discount: float | jax.Array = 0.95,
    gae_lambda: float | jax.Array = 0.95,
) -> MetaAlgorithm:
    """Builds VariBAD for a task distribution and a policy without memory.

    Adaptation is what the belief does; `adapt` is the identity. The algorithm's own
    `policy` is a `BeliefPolicy`, whose `beliefs` gives (μ, log σ) along a trial;
    the decoder's parameters are `state.decoder`.

    Args:
      tasks: the task distribution.
      policy: how an agent acts that sees observation and belief as one vector; its own
        value is the critic unless one is given.
      core: what the encoder remembers with; default `GRU(64)`.
      latent_size: D, of the task variable m.
      decoder: p(r, s' | m, s, a); default a `TransitionDecoder` of the reward.
      critic: a policy without memory whose value is used. Beside observation and belief
        it sees how much of the trial is over, on which the return to come depends; the
        policy does not, so that it can go on when the trial does.
      bonus: what the policy is paid beside the rewards while it is trained, such as
        `metarl_jax.bonuses.hyperstate_bonus`; the belief is about the rewards alone.
      num_tasks: N, trials in a meta-training step, each of another task.
      num_episodes: E, episodes of a trial.
      num_epochs: the policy's passes through one step's data.
      num_belief_epochs: the encoder's and decoder's.
      num_minibatches: updates in a pass. A minibatch is made of whole trials.
      num_bounds: M, how many of a trial's L + 1 beliefs, drawn anew for each update,
        the log-likelihood is computed of; None for all. A decoder that looks at the
        steps costs M times those it looks at, and the authors draw both.
      num_decoded: how many of a trial's L steps, likewise, the log-likelihood is the
        sum over, times L / num_decoded; None for all. Both leave the gradient's
        expectation as it is.
      outer_optimizer: of the policy and the critic; default `optax.adam(7e-4)` after
        clipping gradients to a norm of 0.5.
      belief_optimizer: of the encoder and the decoder; default `optax.adam(1e-3)`.
      kl_coeff: weight of the divergences.
      policy_moves_encoder: whether the gradient of the policy's loss flows into the
        encoder, beside that of the bounds.
      clip_range: ε, a ratio has no gradient beyond 1 ± ε.
      value_coeff: weight of the squared value error, relative to the variance of what
        is predicted.
      entropy_coeff: weight of the policy's entropy; or a schedule of it, a function of
        the meta-training steps taken.
      discount: γ, per step, across episode ends.
      gae_lambda: λ, likewise.

    Returns:
      A `MetaAlgorithm`.

    Raises:
      ValueError: if a count is below 1, `num_bounds` above L + 1, `num_decoded` above
        L, `num_minibatches` does not divide `num_tasks`,
        γ or λ is not in [0, 1], `clip_range` is not above 0, a policy has memory or
        does not fit the action space, the bonus is none, or an observation is
        neither a vector nor an image.
    """
    check_positive(
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        num_epochs=num_epochs,
        num_belief_epochs=num_belief_epochs,
        num_minibatches=num_minibatches,
    )
    check_fraction(discount=discount, gae_lambda=gae_lambda)
    check_above_zero(clip_range=clip_range)
    check_not_negative(
        kl_coeff=kl_coeff,
        value_coeff=value_coeff,
        **first_values(entropy_coeff=entropy_coeff),
    )
    check_flags(policy_moves_encoder=policy_moves_encoder)
    check_optimizers(outer_optimizer=outer_optimizer, belief_optimizer=belief_optimizer)
    core = GRU(64) if core is None else core
    if critic is not None:
        check_methods(critic)
        if has_memory(critic):
            raise ValueError(
                f"the critic has memory; one without is required, got "
                f"{type(critic).__name__}"
            )
    actor, policy = policy, belief_policy(tasks, policy, core, latent_size=latent_size)
    check_policy(tasks, policy, parallel_episodes=False)
    check_appended(tasks, actor, "belief", size=2 * latent_size)
    if critic is None:
        check_critic(tasks, policy)
    else:
        check_critic(tasks, critic, appended=2 * latent_size + 2)
    check_batch(tasks, policy, num_tasks=num_tasks, num_episodes=num_episodes)
    check_divides(num_tasks, num_minibatches=num_minibatches)
    length = num_episodes * tasks.horizon
    for name, count, most in (
        ("num_bounds", num_bounds, length + 1),
        ("num_decoded", num_decoded, length),
    ):
        if count is None:
            continue
        check_positive(**{name: count})
        if count > most:
            raise ValueError(
                f"{name} must be at most {most} in trials of {length} steps; got "
                f"{count}"
            )
    check_positive(trials_of_all_epochs=max(num_epochs, num_belief_epochs) * num_tasks)
    if bonus is not None and not isinstance(bonus, Bonus):
        raise ValueError(f"bonus must be a Bonus or None; got {bonus!r}")
    if decoder is None:
        decoder = transition_decoder(tasks)
    check_decoder(tasks, policy, decoder, latent_size=latent_size)
    surrogate = surrogates.clipped(clip_range)
    if outer_optimizer is None:
        outer_optimizer = optax.chain(
            optax.clip_by_global_norm(0.5), optax.adam(7e-4, eps=1e-5)
        )
    if belief_optimizer is None:
        belief_optimizer = optax.adam(1e-3)
    memory = policy.initial_memory()
    # What each of the two losses moves.
    acting = ("policy", "critic", *(("encoder",) if policy_moves_encoder else ()))
    inferring = ("encoder", "decoder")

    def init(key):
        check_key(key)
        *_, key_policy, key_critic, key_decoder = jax.random.split(key, 5)
        obs = tasks.blank()
        params = {**policy.init(key_policy, memory, obs), "critic": ()}
        agent = Agent({name: params[name] for name in ("encoder", "policy")}, memory)
        if critic is not None:
            joined = join_belief(obs, policy.belief(params, memory))
            seen = join(joined, jnp.zeros(2))
            params["critic"] = critic.init(key_critic, (), seen)
        shapes = jax.eval_shape(
            lambda: rollout.episode(key, tasks, policy, agent, tasks.sample(key))[1]
        )
        example = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        latents = jnp.zeros((1, latent_size))
        params["decoder"] = decoder.init(key_decoder, latents, example)
        bonus_state = ()
        if bonus is not None:
            beliefs = policy.beliefs(params, memory, example)
            bonus_state = bonus.init(jax.random.fold_in(key, 0), example, beliefs)
        return VariBADState(
            agent,
            params["critic"],
            params["decoder"],
            outer_optimizer.init({name: params[name] for name in acting}),
            belief_optimizer.init({name: params[name] for name in inferring}),
            jnp.zeros((), jnp.int32),
            bonus_state,
        )

    def infer(params, steps):
        """Returns the beliefs `[N, L + 1, D]` along trials `[N, L, ...]`."""
        return map_tasks(partial(policy.beliefs, params, memory))(steps)

    def act(params, steps, belief):
        """Returns the distributions and values `[N, L]` of steps taken in a belief."""
        joined = join_belief(steps.obs, belief)
        distribution, value, _ = policy.policy.apply(params["policy"], (), joined)
        if critic is not None:
            seen = join(joined, jax.vmap(_elapsed)(steps))
            _, value, _ = critic.apply(params["critic"], (), seen)
        return distribution, value

    def prepare(key, params, bonus_state, trajectories):
        """Makes trajectories `[N, E, T, ...]` a batch; learns what is new."""
        steps = jax.vmap(trials.stream)(trajectories)
        beliefs = infer(params, steps)
        belief = jax.tree.map(lambda x: x[:, :-1], beliefs)
        old, value = act(params, steps, belief)
        paid, bonus_info = steps, ()
        if bonus is not None:
            reward, bonus_state, bonus_info = bonus.step(
                key, bonus_state, params["decoder"], steps, beliefs
            )
            paid = steps._replace(reward=reward)
        advantage = jax.vmap(
            partial(trials.advantages, discount=discount, gae_lambda=gae_lambda)
        )(paid, value)
        normalised = returns.normalise(advantage, steps.mask)
        batch = Batch(steps, belief, old, normalised, value + advantage)
        return batch, bonus_state, bonus_info

    # Both losses of a batch are its share in those of the whole one: shares add up.
    def policy_loss(entropy_coeff, params, keys, batch, whole):
        del keys
        steps, belief = batch.steps, batch.belief
        if policy_moves_encoder:
            belief = jax.tree.map(lambda x: x[:, :-1], infer(params, steps))
        distribution, value = act(params, steps, belief)
        log_prob = distribution.log_prob(steps.action)
        gain = jax.vmap(surrogate)(
            log_prob, steps.log_prob, steps.reward, batch.advantage, steps.mask
        )
        mean = partial(returns.share_of_mean, mask=steps.mask, whole=whole.steps.mask)
        gain = jnp.sum(gain) / jnp.sum(whole.steps.mask, dtype=gain.dtype)
        entropy = mean(distribution.entropy())
        # Relative to the returns' variance, as the advantages are to their own.
        error = mean((value - batch.target) ** 2)
        variance = returns.variance(whole.target, whole.steps.mask)
        unexplained = error / (variance + 1e-8)
        outside = jnp.abs(jnp.exp(log_prob - steps.log_prob) - 1.0) > clip_range
        outside = outside.astype(gain.dtype)
        loss = value_coeff * unexplained - gain - entropy_coeff * entropy
        return loss, PolicyTerms(
            entropy, unexplained, mean(batch.old.kl(distribution)), mean(outside)
        )

    def belief_loss(params, keys, batch, whole):
        steps = batch.steps

        def bounds(key, beliefs, steps):
            scale = 1.0
            if num_decoded is not None:
                key, key_steps = jax.random.split(key)
                steps, _, scale = _drawn(key_steps, steps, num_decoded)

            def log_likelihood(latents):
                total: Any = decoder.apply(params["decoder"], latents, steps)
                return scale * total

            return evidence_lower_bounds(
                key, beliefs, log_likelihood, num_bounds=num_bounds
            )

        log_likelihood, information = map_tasks(bounds)(
            keys, infer(params, steps), steps
        )
        # Before the first step there is a belief, and one after each that was taken.
        held, all_held = (
            jnp.pad(steps.mask, ((0, 0), (1, 0)), constant_values=True)
            for steps in (batch.steps, whole.steps)
        )
        mean = partial(returns.share_of_mean, mask=held, whole=all_held)
        log_likelihood, information = mean(log_likelihood), mean(information)
        return kl_coeff * information - log_likelihood, (log_likelihood, information)

    def descend(key, loss, optimizer, learned, params, optimizer_state, batch, epochs):
        """Moves the parameters of the names `learned` in epochs of minibatches."""

        def update(carry, inputs):
            params, optimizer_state = carry
            key, index = inputs
            minibatch = jax.tree.map(lambda x: x[index], batch)
            part = {name: params[name] for name in learned}

            def of_share(keys, batch):
                def of(part):
                    return loss({**params, **part}, keys, batch, minibatch)

                return jax.value_and_grad(of, has_aux=True)(part)

            (value, terms), gradient = sum_over_groups(of_share, group_size=None)(
                jax.random.split(key, len(index)), minibatch
            )
            part, optimizer_state = updates.descend(
                optimizer, optimizer_state, part, gradient, value
            )
            params = {**params, **part}
            return (params, optimizer_state), (optax.tree.norm(gradient), terms)

        key_order, key_updates = jax.random.split(key)
        order = jax.vmap(partial(jax.random.permutation, x=num_tasks))(
            jax.random.split(key_order, epochs)
        )
        order = order.reshape(epochs * num_minibatches, -1)
        keys = jax.random.split(key_updates, len(order))
        return jax.lax.scan(update, (params, optimizer_state), (keys, order))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_tasks, key_collect, key_policy, key_belief = jax.random.split(key, 4)
        params: Any = dict(state.agent.params)
        params |= {"critic": state.critic, "decoder": state.decoder}
        task_batch = jax.vmap(tasks.sample)(jax.random.split(key_tasks, num_tasks))

        # Not `rollout.collect_tasks`: all act with the same parameters, so that a
        # matrix product serves all of them.
        def collect(key, task):
            return rollout.collect(
                key, tasks, policy, state.agent, task, num_episodes=num_episodes
            )[1]

        trajectories = map_tasks(collect)(
            jax.random.split(key_collect, num_tasks), task_batch
        )
        batch, bonus_state, bonus_info = prepare(
            jax.random.fold_in(key, 0), params, state.bonus, trajectories
        )
        # The policy first: it learns from what it did in the beliefs that it had.
        (params, policy_optimizer_state), (policy_norms, policy_terms) = descend(
            key_policy,
            partial(policy_loss, updates.at_step(state.step, entropy_coeff)),
            outer_optimizer,
            acting,
            params,
            state.policy_optimizer_state,
            batch,
            num_epochs,
        )
        (params, belief_optimizer_state), (belief_norms, bounds) = descend(
            key_belief,
            belief_loss,
            belief_optimizer,
            inferring,
            params,
            state.belief_optimizer_state,
            batch,
            num_belief_epochs,
        )
        new_state = VariBADState(
            state.agent._replace(
                params={name: params[name] for name in ("encoder", "policy")}
            ),
            params["critic"],
            params["decoder"],
            policy_optimizer_state,
            belief_optimizer_state,
            state.step + 1,
            bonus_state,
        )
        new_state, skipped = updates.keep_finite(
            new_state,
            state,
            (batch.steps.reward, batch.advantage, policy_norms, belief_norms),
        )
        episode_returns = jnp.mean(rollout.episode_returns(trajectories), axis=0)
        last = jax.tree.map(lambda x: jnp.mean(x[-num_minibatches:]), policy_terms)
        log_likelihood, information = bounds
        return new_state, VariBADInfo(
            episode_returns[0],
            episode_returns[-1],
            episode_returns,
            policy_norms[0],
            policy_terms.entropy[0],
            last.kl,
            last.clip_fraction,
            1.0 - policy_terms.unexplained[0],
            log_likelihood[0],
            information[0],
            skipped,
            bonus_info,
        )

    return MetaAlgorithm(init, step, lambda key, agent, trajectories: agent, policy)


def _elapsed(steps: Trajectory) -> jax.Array:
    """Returns the part of the trial and of the episode that is over, `[L, 2]`."""
    number = jnp.arange(steps.mask.shape[0])
    ended = steps.terminated | steps.truncated
    first = jnp.append(True, ended[:-1])
    since = number - jax.lax.cummax(jnp.where(first, number, 0))
    return jnp.stack([number, since], axis=-1) / number.shape[0]
