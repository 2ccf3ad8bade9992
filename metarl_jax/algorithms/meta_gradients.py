"""Meta-gradients: a learner's own numbers, learned while it learns.

An agent lives (`metarl_jax.lifetimes`) and learns by advantage actor-critic
(`metarl_jax.actor_critic`), whose numbers η — learning rate, discount, λ, weight of the
entropy — are themselves moved, every K updates, down the gradient of what became of the
agent:

    θ_{k+1} = θ_k - α_η ∇L_η(θ_k; D_k),    η' = η - β ∇_η M(θ_K(η)),

through all K updates. Of the data D_k, which θ_k sampled, no score is taken: the
gradient is that of what the rule makes of data as they came.

- Xu et al. 2018 (arXiv 1805.09801): M = f(θ_K; D_K), the actor-critic's own loss with
  the numbers η began with, on what θ_K then does.
- Bootstrapped (Flennerhag et al. 2022, arXiv 2109.04504): M = μ(θ̃, θ_K), a distance to
  where the agent gets by learning on: L more updates by the rule and one down f, held
  constant. With L = 0, the squared distance and plain gradient steps of size a it is
  2a times the gradient of Xu et al. exactly.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import actor_critic, lifetimes, tallies, updates
from metarl_jax.actor_critic import Hyperparameters
from metarl_jax.batching import map_tasks
from metarl_jax.learned_numbers import NUM_RECENT, Name, learned_numbers
from metarl_jax.types import Agent, Differentiation, MetaAlgorithm, Policy
from metarl_jax.types import TaskDistribution as Tasks
from metarl_jax.validation import (
    check_above_zero,
    check_at_least,
    check_choice,
    check_differentiation,
    check_flags,
    check_functions,
    check_key,
    check_not_negative,
    check_optimizers,
    check_positive,
)


class Learner(NamedTuple):
    """What an agent carries from update to update, in `inner_state`."""

    optimizer_state: Any
    rule: Any  # η: how far each number is from its first, and a network or ()
    recent: jax.Array  # [10] mean rewards of the latest pieces, the last one last


class Life(NamedTuple):
    """Where a life is."""

    agent: Agent
    streams: lifetimes.Stream  # [W]
    task: Any
    outer_state: Any
    age: jax.Array  # [] int32, updates


class MetaGradientState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent  # a fresh one, whose rule is the mean of those that are learned
    lives: Life  # [N]


class MetaGradientInfo(NamedTuple):
    """What a person plots. All `[]` but the last three."""

    return_before: jax.Array  # estimated from the first pieces
    return_after: jax.Array  # from the last ones
    gradient_norm: jax.Array  # mean over lives
    skipped: jax.Array  # bool, in some life something was not finite
    reward: jax.Array  # [N] mean reward of a step, over all pieces
    entropy: jax.Array  # [N] of the policy, in what its life was judged by
    hyperparameters: Hyperparameters  # [N] with which the last piece was learned from


def meta_gradients(
    tasks: Tasks,
    policy: Policy,
    *,
    num_tasks: int = 1,
    num_episodes: int = 1,
    rollout_length: int = 16,
    num_inner_steps: int = 7,
    num_bootstrap_steps: int | None = 8,
    distance: Literal["kl", "squared"] = "kl",
    learned: Sequence[Name] = ("entropy_coeff",),
    learning_rate: float | jax.Array = 0.1,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 0.95,
    entropy_coeff: float | jax.Array = 0.1,
    value_coeff: float | jax.Array = 0.5,
    reactive_sizes: Sequence[int] | None = None,
    make_optimizer: Callable[[Any], optax.GradientTransformation] = optax.sgd,
    outer_optimizer: optax.GradientTransformation | None = None,
    outer_entropy_coeff: float | jax.Array = 0.0,
    lifetime: int | None = None,
    shared: bool = False,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds meta-gradients of an actor-critic's hyperparameters.

    Args:
      tasks: the task distribution, compiled.
      policy: how the agent acts and what it expects: without memory, with a value.
      num_tasks: N, lives side by side, each with numbers η of its own.
      num_episodes: W, streams of each.
      rollout_length: T, steps of each stream from update to update.
      num_inner_steps: K, updates that are differentiated.
      num_bootstrap_steps: L, updates by the rule from θ_K to the target, before the
        one down f (the paper counts that one too); None for no target: the
        meta-gradient of f itself. The lives go on from where these updates led, so
        nothing that was acted is thrown away.
      distance: μ, `"kl"` of the target's policy and θ_K's where θ_K's successor was,
        or `"squared"`, of the parameters.
      learned: which numbers are learned; the others keep their first value.
      learning_rate: α, the first.
      discount: γ, the first, and that of f.
      gae_lambda: λ, the first, and that of f.
      entropy_coeff: weight of the entropy, the first.
      value_coeff: weight of the squared value error.
      reactive_sizes: hidden sizes of a network that adjusts the numbers by the mean
        rewards of the latest ten pieces, as Flennerhag et al. have it; it begins by
        adjusting nothing. None: the numbers are constants that are learned.
      make_optimizer: makes a transformation of α.
      outer_optimizer: moves η, which are logits of fractions and logarithms of the
        others; default `optax.adam(1e-3)`.
      outer_entropy_coeff: weight of the entropy in f.
      lifetime: updates after which a life ends and another begins, of a fresh agent in
        another task, with the rule as it has become; None: lives do not end.
      shared: whether all lives have one rule, moved by the mean gradient.
      differentiation: what the meta-gradient keeps of each update
        (`metarl_jax.inner_loop`).
      task_group_size: lives under one `vmap` (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`. `adapt` is one update by the rule.

    Raises:
      ValueError: if a count is below 1, a number out of its range, the tasks are
        stepped on the host, or the policy has memory or no value.
    """
    check_positive(num_inner_steps=num_inner_steps)
    if num_bootstrap_steps is not None:
        check_at_least(0, num_bootstrap_steps=num_bootstrap_steps)
    if lifetime is not None:
        check_positive(lifetime=lifetime)
    check_choice(("kl", "squared"), distance=distance)
    check_above_zero(learning_rate=learning_rate)
    check_not_negative(
        entropy_coeff=entropy_coeff,
        value_coeff=value_coeff,
        outer_entropy_coeff=outer_entropy_coeff,
    )
    check_flags(shared=shared)
    check_functions(make_optimizer=make_optimizer)
    check_optimizers(make_optimizer=make_optimizer(learning_rate))
    check_optimizers(outer_optimizer=outer_optimizer)
    check_differentiation(differentiation)
    lifetimes.check_judged_lives(
        tasks,
        policy,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        rollout_length=rollout_length,
        discount=discount,
        gae_lambda=gae_lambda,
        task_group_size=task_group_size,
    )
    outer_optimizer = optax.adam(1e-3) if outer_optimizer is None else outer_optimizer
    first = Hyperparameters(
        learning_rate, discount, gae_lambda, entropy_coeff, value_coeff
    )
    first_rule, numbers = learned_numbers(first, learned, reactive_sizes)

    def learn(agent, trajectories):
        """Takes one update by the rule."""
        learner = agent.inner_state
        inner = agent._replace(inner_state=learner.optimizer_state)
        inner = actor_critic.update(
            policy,
            inner,
            trajectories,
            numbers(learner.rule, learner.recent),
            optimizer=make_optimizer,
            differentiation=differentiation,
        )
        rate = tallies.reward_rate(tallies.tally(trajectories))
        recent = jnp.append(learner.recent[1:], rate)
        return inner._replace(
            inner_state=Learner(inner.inner_state, learner.rule, recent)
        )

    def act(key, life):
        return lifetimes.go_on(key, tasks, policy, life, num_steps=rollout_length)

    def live(life, keys):
        """Acts and learns as often as there are keys."""

        def once(life, key):
            life, trajectories = act(key, life)
            life = life._replace(agent=learn(life.agent, trajectories))
            return life, tallies.tally(trajectories)

        return jax.lax.scan(once, life, keys)

    def objective(params, trajectories):
        """Returns f(θ; D), whose targets are made of θ too, but are constants."""
        aims = actor_critic.targets(
            policy,
            jax.lax.stop_gradient(params),
            trajectories,
            discount=discount,
            gae_lambda=gae_lambda,
        )
        return actor_critic.loss(
            policy,
            params,
            trajectories,
            aims,
            entropy_coeff=outer_entropy_coeff,
            value_coeff=value_coeff,
        )

    def target(agent, trajectories):
        """Returns θ̃: the parameters after one step down f."""
        optimizer = make_optimizer(learning_rate)
        gradient = jax.grad(objective)(agent.params, trajectories)
        step, _ = optimizer.update(
            gradient, agent.inner_state.optimizer_state, agent.params
        )
        return optax.apply_updates(agent.params, step)

    def divergence(goal, params, trajectories):
        """Returns μ(θ̃, θ)."""
        if distance == "squared":
            return optax.tree.norm(optax.tree.sub(params, goal), squared=True)
        memory = policy.initial_memory()
        old, new = (
            policy.apply(p, memory, trajectories.obs)[0] for p in (goal, params)
        )
        return jnp.mean(old.kl(new))

    def one_life(key, life):
        """Lives on, and tells where the rule is to go."""
        key_inner, key_bootstrap, key_judge = jax.random.split(key, 3)

        def judge(rule):
            """Returns M, and the life after it with its mean rewards."""
            learner = life.agent.inner_state._replace(rule=rule)
            start = life._replace(agent=life.agent._replace(inner_state=learner))
            after, counts = live(start, jax.random.split(key_inner, num_inner_steps))
            later = jax.lax.stop_gradient(after)
            if num_bootstrap_steps:
                keys = jax.random.split(key_bootstrap, num_bootstrap_steps)
                later, more = live(later, keys)
                counts = jax.tree.map(jnp.append, counts, more)
            later, trajectories = act(key_judge, later)
            if num_bootstrap_steps is None:
                value = objective(after.agent.params, trajectories)
            else:
                goal = jax.lax.stop_gradient(target(later.agent, trajectories))
                value = divergence(goal, after.agent.params, trajectories)
            counts = jax.tree.map(jnp.append, counts, tallies.tally(trajectories))
            return value, jax.lax.stop_gradient((later, trajectories, counts))

        rule = life.agent.inner_state.rule
        (value, seen), gradient = jax.value_and_grad(judge, has_aux=True)(rule)
        return value, gradient, *seen

    def next_life(key, value, gradient, life, trajectories):
        """Moves the rule, learns by it from the last piece, and is born again."""
        learner = life.agent.inner_state
        rule, outer_state = updates.descend(
            outer_optimizer, life.outer_state, learner.rule, gradient, value
        )
        hyperparameters = numbers(learner.rule, learner.recent)
        learner = learner._replace(rule=rule)
        agent = learn(life.agent._replace(inner_state=learner), trajectories)
        age = life.age + num_inner_steps + (num_bootstrap_steps or 0) + 1
        life = life._replace(agent=agent, outer_state=outer_state, age=age)
        if lifetime is not None:
            reborn = birth(key, rule)._replace(outer_state=outer_state)
            over = age >= lifetime
            life = jax.tree.map(partial(jnp.where, over), reborn, life)
        return life, hyperparameters

    def first_agent(key, rule):
        obs, memory = tasks.blank(), policy.initial_memory()
        params = policy.init(key, memory, obs)
        state = make_optimizer(learning_rate).init(params)
        return Agent(params, memory, Learner(state, rule, jnp.zeros(NUM_RECENT)))

    def birth(key, rule):
        key_agent, key_task, key_streams = jax.random.split(key, 3)
        task = tasks.sample(key_task)
        streams = lifetimes.begin_all(
            key_streams, tasks, task, num_streams=num_episodes
        )
        agent = first_agent(key_agent, rule)
        outer_state = outer_optimizer.init(rule)
        return Life(agent, streams, task, outer_state, jnp.zeros((), jnp.int32))

    def init(key):
        check_key(key)
        key_rule, key_agent, key_lives = jax.random.split(key, 3)
        rule = first_rule(key_rule)
        keys = jax.random.split(key_lives, num_tasks)
        lives = jax.vmap(lambda key: birth(key, rule))(keys)
        return MetaGradientState(first_agent(key_agent, rule), lives)

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_live, key_birth = jax.random.split(key)
        over_lives = partial(map_tasks, group_size=task_group_size)
        value, gradient, lives, trajectories, counts = over_lives(one_life)(
            jax.random.split(key_live, num_tasks), state.lives
        )
        norm = jax.vmap(optax.tree.norm)(gradient)
        if shared:
            gradient = jax.tree.map(
                lambda x: jnp.broadcast_to(jnp.mean(x, axis=0), x.shape), gradient
            )
        lives, hyperparameters = over_lives(next_life)(
            jax.random.split(key_birth, num_tasks), value, gradient, lives, trajectories
        )
        lives, skipped = jax.vmap(updates.keep_finite)(
            lives, state.lives, (norm, counts)
        )
        rule = jax.tree.map(lambda x: jnp.mean(x, axis=0), lives.agent.inner_state.rule)
        learner = state.agent.inner_state._replace(rule=rule)
        new_state = MetaGradientState(state.agent._replace(inner_state=learner), lives)
        entropy = jax.vmap(
            lambda params, obs: jnp.mean(
                policy.apply(params, policy.initial_memory(), obs)[0].entropy()
            )
        )(lives.agent.params, trajectories.obs)
        before, after = tallies.mean_returns(counts, (0, -1), horizon=tasks.horizon)
        return new_state, MetaGradientInfo(
            before,
            after,
            jnp.mean(norm),
            jnp.any(skipped),
            jax.vmap(tallies.reward_rate)(counts),
            entropy,
            hyperparameters,
        )

    def adapt(key, agent, trajectories):
        del key
        return learn(agent, trajectories)

    return MetaAlgorithm(init, step, adapt, policy)
