"""Learned policy gradient: the rule by which agents learn, learned from many lives.

A network η, run backwards over a piece of an agent's life, says of every step how much
likelier its action is to be, π̂, and what the agent's prediction is to become, ŷ
(`metarl_jax.rule_network`). The agent θ, whose predictions y mean whatever the rule
makes of them, takes

    θ' = θ + α ∇_θ mean_t [ log π_θ(a_t | o_t) π̂_t - α_y KL(y_θ(o_t) ‖ ŷ_t) ].

Many agents live side by side, each in a task of its own, and η is moved so that their
next pieces pay (Oh et al. 2020, arXiv 2007.08794): by the gradient through K updates of

    mean [ log π_{θ_k}(a_t | o_t) A_t + β_0 H(π) + β_1 H(y) - β_2 π̂_t² - β_3 ŷ_t² ],

A the advantages of a critic that is no part of the agent; of the data no score is
taken. Or, with `sigma`, by evolution: the gradient of the reward at the end of whole
lives, smoothed over η, which sees how a rule ends and not only where it goes next
(Jackson et al. 2024, arXiv 2402.05828).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax import actor_critic, lifetimes, rule_learner, tallies, updates
from metarl_jax.batching import map_tasks
from metarl_jax.evolution import downhill_of_lives
from metarl_jax.policies.predicting import predicting
from metarl_jax.rule_network import UpdateRule
from metarl_jax.types import (
    Agent,
    Differentiation,
    MetaAlgorithm,
    Policy,
    TaskDistribution,
)
from metarl_jax.validation import (
    check_above_zero,
    check_flags,
    check_key,
    check_not_negative,
    check_optimizers,
    check_positive,
)


class Life(NamedTuple):
    """Where a life is; the critic judges it, the agent knows nothing of it."""

    agent: Agent
    critic: Any
    critic_state: Any
    streams: lifetimes.Stream  # [W]
    task: Any


class LPGState(NamedTuple):
    """What the next meta-training step needs."""

    agent: Agent  # a fresh one, with the rule
    outer_state: Any
    lives: Any  # [N]; () where every step lives whole lives


class LPGInfo(NamedTuple):
    """What a person plots. All `[]`.

    The returns are estimated from pieces of lives (`tallies.mean_return`), of all
    ages: the first and the last of what is differentiated; by evolution the first piece
    of a life and its last tenth, by perturbed rules.
    """

    return_before: jax.Array
    return_after: jax.Array
    gradient_norm: jax.Array
    entropy: jax.Array  # of the agents' policies, mean over what was judged
    skipped: jax.Array


def lpg(
    tasks: TaskDistribution,
    policy: Policy,
    *,
    num_tasks: int = 64,
    num_episodes: int = 16,
    rollout_length: int = 20,
    num_inner_steps: int = 5,
    lifetime: int = 500,
    rule: Any = None,
    num_predictions: int = 8,
    prediction_coeff: float | jax.Array = 0.5,
    inner_optimizer: optax.GradientTransformation | None = None,
    critic_optimizer: optax.GradientTransformation | None = None,
    outer_optimizer: optax.GradientTransformation | None = None,
    discount: float | jax.Array = 0.99,
    gae_lambda: float | jax.Array = 0.95,
    entropy_coeff: float | jax.Array = 0.05,
    prediction_entropy_coeff: float | jax.Array = 0.001,
    aim_coeff: float | jax.Array = 0.005,
    prediction_aim_coeff: float | jax.Array = 0.001,
    sigma: float | jax.Array | None = None,
    temporal: bool = False,
    differentiation: Differentiation = "plain",
    task_group_size: int | None = None,
) -> MetaAlgorithm:
    """Builds LPG, or by evolution TA-LPG, for a task distribution and a policy.

    Args:
      tasks: the task distribution, compiled.
      policy: how an agent acts: without memory, with a value, which the critic uses, a
        second network of the same kind; the agent's own is not used.
      num_tasks: N, lives side by side; by evolution pairs of lives, each pair in a task
        of its own, with the same random numbers.
      num_episodes: W, streams of each.
      rollout_length: T, steps of each stream from update to update.
      num_inner_steps: K, updates that are differentiated.
      lifetime: updates of a life; then another agent begins in another task.
      rule: a flax module like `UpdateRule`, which is the default.
      num_predictions: M, classes of y.
      prediction_coeff: α_y.
      inner_optimizer: moves the agent; default `optax.sgd(0.5)`. A table, every row of
        which is seen seldom, needs one that is much greater.
      critic_optimizer: default `optax.adam(1e-2)`.
      outer_optimizer: moves η; default `optax.adam(1e-3)`, by evolution
        `optax.adam(1e-2)`.
      discount: γ of the advantages.
      gae_lambda: λ of the advantages.
      entropy_coeff: β_0.
      prediction_entropy_coeff: β_1.
      aim_coeff: β_2.
      prediction_aim_coeff: β_3.
      sigma: σ of evolution, 0.1 in the paper's corrected settings; None: the gradient
        through K updates.
      temporal: whether the rule sees an agent's age.
      differentiation: what the meta-gradient keeps of each update
        (`metarl_jax.inner_loop`).
      task_group_size: lives under one `vmap` (`metarl_jax.batching`).

    Returns:
      A `MetaAlgorithm`. `adapt` is one update by the rule, of all pieces of the
      episodes it is given; `metarl_jax.sample_efficiency.life_curve` follows a life.

    Raises:
      ValueError: if a count is below 1, a number out of its range, the tasks are
        stepped on the host, or the policy has memory or no value.
    """
    check_positive(
        num_inner_steps=num_inner_steps,
        lifetime=lifetime,
        num_predictions=num_predictions,
    )
    check_not_negative(
        prediction_coeff=prediction_coeff,
        entropy_coeff=entropy_coeff,
        prediction_entropy_coeff=prediction_entropy_coeff,
        aim_coeff=aim_coeff,
        prediction_aim_coeff=prediction_aim_coeff,
    )
    if sigma is not None:
        check_above_zero(sigma=sigma)
    check_flags(temporal=temporal)
    check_optimizers(
        inner_optimizer=inner_optimizer,
        critic_optimizer=critic_optimizer,
        outer_optimizer=outer_optimizer,
    )
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
    inner_optimizer = optax.sgd(0.5) if inner_optimizer is None else inner_optimizer
    critic_optimizer = (
        optax.adam(1e-2) if critic_optimizer is None else critic_optimizer
    )
    if outer_optimizer is None:
        outer_optimizer = optax.adam(1e-3 if sigma is None else 1e-2)
    acting = predicting(tasks, policy, num_predictions=num_predictions)
    network: Any = UpdateRule(num_predictions, temporal=temporal)
    network = network if rule is None else rule
    memory = policy.initial_memory()

    learn = rule_learner.learner(
        acting,
        network,
        optimizer=inner_optimizer,
        prediction_coeff=prediction_coeff,
        lifetime=lifetime,
        differentiation=differentiation,
    )

    def act(key, life):
        return lifetimes.go_on(key, tasks, acting, life, num_steps=rollout_length)

    def judge(life, trajectories):
        """Returns what η is to make small, of one piece, and moves the critic on."""
        aims = actor_critic.targets(
            policy, life.critic, trajectories, discount=discount, gae_lambda=gae_lambda
        )
        params, mask = life.agent.params, trajectories.mask
        distribution, _, _ = acting.apply(params, memory, trajectories.obs)
        log_y = jax.nn.log_softmax(acting.predict(params, trajectories.obs))
        entropy = _mean(distribution.entropy(), mask)
        gain = (
            _mean(distribution.log_prob(trajectories.action) * aims.advantage, mask)
            + entropy_coeff * entropy
            - prediction_entropy_coeff
            * _mean(jnp.sum(jnp.exp(log_y) * log_y, axis=-1), mask)
        )

        def critic_loss(critic):
            value = policy.apply(critic, memory, trajectories.obs)[1]
            return _mean((value - aims.value) ** 2, mask)

        error, gradient = jax.value_and_grad(critic_loss)(life.critic)
        critic, state = updates.descend(
            critic_optimizer, life.critic_state, life.critic, gradient, error
        )
        return life._replace(critic=critic, critic_state=state), (-gain, entropy)

    def differentiated(rule, key, life):
        """Lives on; what η is to make small, through K updates, and the life."""
        learner = life.agent.inner_state._replace(rule=rule)
        life = life._replace(agent=life.agent._replace(inner_state=learner))

        def once(life, key):
            life, trajectories = act(key, life)
            life, judged = judge(life, trajectories)
            agent, aims = learn(life.agent, trajectories)
            size = aim_coeff * _mean(aims.policy**2, trajectories.mask)
            size += prediction_aim_coeff * _mean(
                jnp.mean(aims.prediction**2, axis=-1), trajectories.mask
            )
            count = tallies.tally(trajectories)
            return life._replace(agent=agent), (*judged, size, count)

        # The last piece judges the last update and is then learned from: to no account.
        keys = jax.random.split(key, num_inner_steps + 1)
        life, (losses, entropy, sizes, counts) = jax.lax.scan(once, life, keys)
        # The first piece was acted before any update.
        loss = jnp.mean(losses[1:]) + jnp.mean(sizes[:-1])
        return loss, (life, jnp.mean(entropy), counts)

    def whole_life(rule, key):
        """Returns what the last tenth of a life gives, and its first piece."""
        key_birth, key_live = jax.random.split(key)
        life = birth(key_birth, rule)

        def once(life, key):
            life, trajectories = act(key, life)
            agent, _ = learn(life.agent, trajectories)
            return life._replace(agent=agent), tallies.tally(trajectories)

        return lifetimes.whole(
            key_live, life, once, num_updates=lifetime, horizon=tasks.horizon
        )

    def fresh(key, rule):
        params = acting.init(key, memory, tasks.blank())
        learner = rule_learner.Learner(
            inner_optimizer.init(params), rule, jnp.zeros((), jnp.int32)
        )
        return Agent(params, memory, learner)

    def birth(key, rule):
        key_agent, key_critic, key_task, key_streams = jax.random.split(key, 4)
        task = tasks.sample(key_task)
        streams = lifetimes.begin_all(
            key_streams, tasks, task, num_streams=num_episodes
        )
        critic = policy.init(key_critic, memory, tasks.blank())
        state = critic_optimizer.init(critic)
        return Life(fresh(key_agent, rule), critic, state, streams, task)

    def init(key):
        check_key(key)
        key_rule, key_agent, key_lives, key_age = jax.random.split(key, 4)
        first = network.init(
            key_rule, rule_learner.nothing_seen(num_predictions, rollout_length)
        )
        lives: Any = ()
        if sigma is None:
            keys = jax.random.split(key_lives, num_tasks)
            lives = jax.vmap(lambda key: birth(key, first))(keys)
            # Lives of all ages, so that they do not all end at once.
            ages = jax.random.randint(key_age, (num_tasks,), 0, lifetime)
            learner = lives.agent.inner_state._replace(age=ages)
            lives = lives._replace(agent=lives.agent._replace(inner_state=learner))
        return LPGState(fresh(key_agent, first), outer_optimizer.init(first), lives)

    def gradient_of_lives(key, state, rule):
        """Returns the gradient, the lives after it, and what is told."""
        keys = jax.random.split(key, num_tasks)

        def mean_loss(rule):
            each = map_tasks(
                lambda key, life: differentiated(rule, key, life),
                group_size=task_group_size,
            )
            loss, aux = each(keys, state.lives)
            return jnp.mean(loss), aux

        (loss, (lives, entropy, counts)), gradient = jax.value_and_grad(
            mean_loss, has_aux=True
        )(rule)
        ends = tallies.mean_returns(counts, (0, -1), horizon=tasks.horizon)
        return gradient, loss, lives, (*ends, jnp.mean(entropy))

    def gradient_of_evolution(key, state, rule):
        """The same, by pairs of whole lives."""
        del state
        width: Any = sigma
        downhill, before, after = downhill_of_lives(
            key,
            whole_life,
            rule,
            sigma=width,
            num_pairs=num_tasks,
            group_size=task_group_size,
        )
        return downhill, -after, (), (before, after, jnp.zeros(()))

    def step(key, state):
        """One meta-training step."""
        check_key(key)
        key_live, key_birth = jax.random.split(key)
        rule = state.agent.inner_state.rule
        find = gradient_of_lives if sigma is None else gradient_of_evolution
        gradient, loss, lives, (before, after, entropy) = find(key_live, state, rule)
        new_rule, outer_state = updates.descend(
            outer_optimizer, state.outer_state, rule, gradient, loss
        )

        def next_life(key, life):
            learner = life.agent.inner_state._replace(rule=new_rule)
            life = life._replace(agent=life.agent._replace(inner_state=learner))
            over = learner.age >= lifetime
            return jax.tree.map(partial(jnp.where, over), birth(key, new_rule), life)

        if lives:
            keys = jax.random.split(key_birth, num_tasks)
            lives = map_tasks(next_life, group_size=task_group_size)(keys, lives)
        learner = state.agent.inner_state._replace(rule=new_rule)
        agent = state.agent._replace(inner_state=learner)
        norm = optax.tree.norm(gradient)
        new_state, skipped = updates.keep_finite(
            LPGState(agent, outer_state, lives), state, (loss, norm)
        )
        return new_state, LPGInfo(before, after, norm, entropy, skipped)

    def adapt(key, agent, trajectories):
        del key
        length = min(rollout_length, tasks.horizon)
        return learn(agent, lifetimes.pieces(trajectories, num_steps=length))[0]

    return MetaAlgorithm(init, step, adapt, acting)


def _mean(x, mask):
    return jnp.mean(x, where=mask)
