"""Learning a rule of the kind of Disco103 from the lives of agents that follow it.

An agent θ predicts and descends the rule's losses (`metarl_jax.update_rules.disco`);
the rule η is moved so that what θ does after K updates pays,

    -mean [ log π_{θ_k}(a_t | o_t) A_t + β H(π_{θ_k}) ],   k = 1 … K,

A the advantages of a critic that is no part of the agent. The gradient goes through
all K updates, forward over reverse (Kemaev et al. 2025, arXiv 2505.00793), as the
authors of Disco103 had it. Lives go on from step to step; the data they learn from are
constants.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import actor_critic, inner_loop, lifetimes, spaces, tallies, updates
from metarl_jax.batching import map_tasks
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import Agent, Differentiation, Params, TaskDistribution
from metarl_jax.update_rules import disco
from metarl_jax.update_rules.disco_learner import Acting, DiscoAgent, flat
from metarl_jax.update_rules.update_network import UpdateNetwork
from metarl_jax.validation import (
    check_at_least,
    check_key,
    check_not_negative,
    check_optimizers,
    check_positive,
)


class DiscoLife(NamedTuple):
    """Where a life is; the critic judges it, the agent knows nothing of it."""

    agent: Agent  # its optimiser's state in `inner_state`
    slow: Params  # a running average of its parameters
    rule_state: disco.RuleState
    streams: lifetimes.Stream  # [W]
    task: Any
    critic: Any
    critic_state: Any
    age: jax.Array  # [] int32, updates


class DiscoMetaState(NamedTuple):
    """What the next meta-training step needs."""

    rule: Params  # η
    outer_state: Any
    lives: DiscoLife  # [N]


class DiscoMetaInfo(NamedTuple):
    """What a person plots. All `[]`."""

    return_before: jax.Array  # estimated from the first pieces
    return_after: jax.Array  # from the last ones
    gradient_norm: jax.Array
    skipped: jax.Array


class MetaTraining(NamedTuple):
    """Learns a rule.

    Attributes:
      init: `(key) -> State`.
      step: `(key, state) -> (State, Info)`.
      loss: `(rule, key, life) -> (loss, (life, counts))`, what the rule is to make
        small of one life.
    """

    init: Any
    step: Any
    loss: Any


def disco_meta_training(
    tasks: TaskDistribution,
    *,
    network: UpdateNetwork | None = None,
    hidden_sizes: tuple[int, ...] = (32,),
    model_size: int = 32,
    head_size: int = 32,
    num_tasks: int = 16,
    num_episodes: int = 8,
    rollout_length: int = 20,
    num_inner_steps: int = 2,
    lifetime: int = 200,
    inner_optimizer: optax.GradientTransformation | None = None,
    critic_optimizer: optax.GradientTransformation | None = None,
    outer_optimizer: optax.GradientTransformation | None = None,
    slow_rate: float = 0.1,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    entropy_coeff: float = 0.05,
    differentiation: Differentiation = "mixed",
    task_group_size: int | None = None,
) -> MetaTraining:
    """Builds meta-training of a rule.

    Args:
      tasks: the family, compiled, with discrete actions.
      network: the rule; default one of 32, predictions of 16 and a lifetime of 16,
        where Disco103 has 256, 600 and 128.
      hidden_sizes: of an agent's layers.
      model_size: of its model's recurrent state.
      head_size: of the layer before what is predicted of an action.
      num_tasks: N, lives side by side.
      num_episodes: W, streams of each.
      rollout_length: T, steps of each stream from update to update, one more than are
        learned from.
      num_inner_steps: K, updates that are differentiated.
      lifetime: updates of a life; then another agent begins in another task.
      inner_optimizer: moves an agent; default `optax.adam(1e-3, eps_root=1e-12)`.
      critic_optimizer: default `optax.adam(1e-2)`.
      outer_optimizer: moves η; default Adam at 1e-3, gradients clipped to 1.
      slow_rate: how far an agent's slow copy goes towards it.
      discount: γ of the advantages.
      gae_lambda: λ of the advantages.
      entropy_coeff: β.
      differentiation: what the meta-gradient keeps of each update
        (`metarl_jax.inner_loop`).
      task_group_size: lives under one `vmap` (`metarl_jax.batching`).

    Raises:
      ValueError: if a size is out of range, actions are not discrete, or the tasks are
        stepped on the host.
    """
    check_positive(num_inner_steps=num_inner_steps, lifetime=lifetime)
    check_at_least(2, rollout_length=rollout_length)
    check_not_negative(entropy_coeff=entropy_coeff, slow_rate=slow_rate)
    check_optimizers(critic_optimizer=critic_optimizer, outer_optimizer=outer_optimizer)
    critic = mlp_policy(tasks, hidden_sizes=hidden_sizes, value_head=True)
    lifetimes.check_judged_lives(
        tasks,
        critic,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        rollout_length=rollout_length,
        discount=discount,
        gae_lambda=gae_lambda,
        task_group_size=task_group_size,
    )
    num_actions = spaces.num_choices(tasks.action_space)
    if num_actions is None:
        raise ValueError(
            f"the rule is for discrete actions; got {tasks.action_space!r}"
        )
    if network is None:
        network = UpdateNetwork(size=32, prediction_size=16, lifetime_size=16)
    if inner_optimizer is None:
        inner_optimizer = optax.adam(1e-3, eps_root=1e-12)
    if critic_optimizer is None:
        critic_optimizer = optax.adam(1e-2)
    if outer_optimizer is None:
        outer_optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    rule_network: UpdateNetwork = network
    agent_network = DiscoAgent(
        num_actions, hidden_sizes, model_size, head_size, network.prediction_size
    )
    predict: Any = agent_network.apply
    say_targets: Any = network.apply
    acting: Any = Acting(predict)

    def agent_loss(params, data):
        obs, experience, targets, td_error = data
        said = predict(params, obs, experience.action)
        each = disco.losses(said, experience, targets, td_error)
        return jnp.mean(each["total"])

    descend = inner_loop.gradient_step(
        agent_loss, inner_optimizer, differentiation=differentiation
    )

    def learn(rule, life, trajectories):
        """Takes one update by the rule; differentiable in it and in the agent."""
        obs = jax.vmap(jax.vmap(flat))(trajectories.obs)
        said = predict(life.agent.params, obs)
        ended = trajectories.terminated | trajectories.truncated
        experience = disco.Experience(
            trajectories.action,
            trajectories.reward[:, :-1],
            ended[:, :-1],
            jax.lax.stop_gradient(said.logits),
        )
        targets, estimates, rule_state = say_targets(
            rule, life.rule_state, said, predict(life.slow, obs), experience
        )
        agent = descend(life.agent, (obs, experience, targets, estimates.td_error))
        slow = optax.incremental_update(life.agent.params, life.slow, slow_rate)
        return life._replace(
            agent=agent, slow=slow, rule_state=rule_state, age=life.age + 1
        )

    def judge(life, trajectories):
        """Returns what is to be small of one piece, and moves the critic on."""
        aims = actor_critic.targets(
            critic, life.critic, trajectories, discount=discount, gae_lambda=gae_lambda
        )
        distribution, _, _ = jax.vmap(
            jax.vmap(lambda obs: acting.apply(life.agent.params, (), obs))
        )(trajectories.obs)
        gain = distribution.log_prob(trajectories.action) * aims.advantage
        loss = -jnp.mean(gain + entropy_coeff * distribution.entropy())

        def error(params):
            value: Any = critic.apply(params, (), trajectories.obs)[1]
            return jnp.mean((value - aims.value) ** 2)

        value, gradient = jax.value_and_grad(error)(life.critic)
        params, state = updates.descend(
            critic_optimizer, life.critic_state, life.critic, gradient, value
        )
        return life._replace(critic=params, critic_state=state), loss

    def loss_of_life(rule, key, life):
        def once(life, inputs):
            key, last = inputs
            life, trajectories = lifetimes.go_on(
                key, tasks, acting, life, num_steps=rollout_length
            )
            life, loss = judge(life, trajectories)
            life = jax.lax.cond(
                last,
                lambda life: life,
                lambda life: learn(rule, life, trajectories),
                life,
            )
            return life, (loss, tallies.tally(trajectories))

        # The last piece judges the last update; none is made of it.
        keys = jax.random.split(key, num_inner_steps + 1)
        last = jnp.arange(num_inner_steps + 1) == num_inner_steps
        life, (losses, counts) = jax.lax.scan(once, life, (keys, last))
        return jnp.mean(losses[1:]), (life, counts)

    def birth(key):
        key_agent, key_critic, key_task, key_streams = jax.random.split(key, 4)
        task = tasks.sample(key_task)
        params = agent_network.init(key_agent, flat(tasks.blank()))
        critic_params = critic.init(key_critic, (), tasks.blank())
        return DiscoLife(
            Agent(params, (), inner_optimizer.init(params)),
            params,
            rule_network.initial_state(),
            lifetimes.begin_all(key_streams, tasks, task, num_streams=num_episodes),
            task,
            critic_params,
            critic_optimizer.init(critic_params),
            jnp.zeros((), jnp.int32),
        )

    def init(key):
        check_key(key)
        key_rule, key_lives, key_age = jax.random.split(key, 3)
        lives = jax.vmap(birth)(jax.random.split(key_lives, num_tasks))
        ages = jax.random.randint(key_age, (num_tasks,), 0, lifetime)
        one = jax.tree.map(lambda x: x[0], lives)
        obs = jnp.zeros((1, 2, *flat(tasks.blank()).shape))
        said = predict(one.agent.params, obs)
        nothing = disco.Experience(
            jnp.zeros((1, 2), jnp.int32),
            jnp.zeros((1, 1)),
            jnp.zeros((1, 1), bool),
            said.logits,
        )
        rule = rule_network.init(key_rule, one.rule_state, said, said, nothing)
        state = outer_optimizer.init(rule)
        return DiscoMetaState(rule, state, lives._replace(age=ages))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_live, key_birth = jax.random.split(key)

        def mean_loss(rule):
            each = map_tasks(
                lambda key, life: loss_of_life(rule, key, life),
                group_size=task_group_size,
            )
            loss, aux = each(jax.random.split(key_live, num_tasks), state.lives)
            return jnp.mean(loss), aux

        (loss, (lives, counts)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
            state.rule
        )
        rule, outer_state = updates.descend(
            outer_optimizer, state.outer_state, state.rule, gradient, loss
        )

        def next_life(key, life):
            return jax.tree.map(
                partial(jnp.where, life.age >= lifetime), birth(key), life
            )

        lives = map_tasks(next_life, group_size=task_group_size)(
            jax.random.split(key_birth, num_tasks), lives
        )
        before, after = tallies.mean_returns(counts, (0, -1), horizon=tasks.horizon)
        norm = optax.tree.norm(gradient)
        new_state, skipped = updates.keep_finite(
            DiscoMetaState(rule, outer_state, lives), state, (loss, norm)
        )
        return new_state, DiscoMetaInfo(before, after, norm, skipped)

    return MetaTraining(init, step, loss_of_life)
