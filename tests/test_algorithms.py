"""Each update rule against an independent truth: plain loops, enumeration, MAML's.

The policy, its divergence and every objective are written out here; only acting and the
linear baseline are the library's, which have tests of their own.
"""

import itertools
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import jit

from metarl_jax import inner_loop, policy_gradient, returns, rollout, surrogates
from metarl_jax.algorithms.anil import anil, body, head
from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.emaml import (
    emaml,
    exploration_objective,
    less_the_others,
    loss_and_log_ratio,
)
from metarl_jax.algorithms.es_maml import antithetic_gradient, es_maml
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.meta_sgd import Learned, meta_sgd
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.algorithms.promp import promp
from metarl_jax.algorithms.reptile import reptile
from metarl_jax.distributions import Categorical
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import MLPPolicy, mlp_policy
from metarl_jax.policy_gradient import Batch
from metarl_jax.trust_region import TrustRegion
from metarl_jax.types import Agent

N, E, T, K = 2, 3, 5, 2
TASKS = point_navigation(horizon=T, goal_tolerance=0.1)
POLICY = mlp_policy(TASKS, hidden_sizes=(4,), activation=jnp.tanh)
KEY = jax.random.key(7)
INNER_LR = 0.2
START = POLICY.init(jax.random.key(0), (), jnp.zeros(2))


def assert_close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


def plain_gaussian(params, obs):
    """The policy's mean and log standard deviation, written out."""
    p = params["params"]
    x = jnp.tanh(obs @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"])
    return x @ p["mean"]["kernel"] + p["mean"]["bias"], p["log_std"]


def plain_log_prob(params, data):
    mean, log_std = plain_gaussian(params, data.obs)
    z = (data.action - mean) / jnp.exp(log_std)
    return jnp.sum(-0.5 * z**2 - log_std - 0.5 * jnp.log(2 * jnp.pi), axis=-1)


def plain_kl(old_params, params, data):
    """Mean over the valid steps of KL(old ‖ new), by its formula."""
    (m, s), (n, u) = (plain_gaussian(p, data.obs) for p in (old_params, params))
    ratio = jnp.exp(2 * s - 2 * u) + (m - n) ** 2 / jnp.exp(2 * u)
    return plain_mean(jnp.sum(u - s + 0.5 * (ratio - 1), axis=-1), data)


def plain_mean(x, data):
    return jnp.sum(jnp.where(data.mask, x, 0.0)) / jnp.sum(data.mask)


def plain_advantage(data):
    """The return to go less the linear baseline; λ = 1 makes GAE that."""
    to_go = jnp.stack(
        [
            returns.discounted_returns(r, d, discount=0.99)
            for r, d in zip(data.reward, data.terminated, strict=True)
        ]
    )
    return to_go - returns.linear_feature_baseline(data.obs, to_go, data.mask)


def plain_normalised(advantage, mask):
    mean = jnp.sum(jnp.where(mask, advantage, 0.0)) / jnp.sum(mask)
    variance = jnp.sum(jnp.where(mask, (advantage - mean) ** 2, 0.0)) / jnp.sum(mask)
    return jnp.where(mask, (advantage - mean) / jnp.sqrt(variance), 0.0)


def record(initial, adapt, policy_params):
    """What a meta-training step with `KEY` sees, `[N][K + 1]`.

    Trajectories, normalised advantages and what acted: `initial`, changed after each
    round by `adapt`, an agent with the parameters `policy_params` makes of it.
    """

    @jit
    def collect(key, current, task):
        agent = Agent(policy_params(current))
        _, data = rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=E)
        return data, plain_normalised(plain_advantage(data), data.mask)

    adapt = jit(adapt)
    key_tasks, key_before, key_after = jax.random.split(KEY, 3)
    round_keys = [*jax.random.split(key_before, K), key_after]
    rows = []
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])
        current, rounds = initial, []
        for round_key in round_keys:
            key = jax.random.split(round_key, N)[i]
            rounds.append((*collect(key, current, task), current))
            current = adapt(current, *rounds[-1][:2])
        rows.append(rounds)
    return rows


@pytest.fixture(scope="module")
def data():
    """From `START`, by plain ascent of log π A (the ratio's gradient is the same)."""
    return record(START, plain_step, lambda params: params)


def build(algorithm, **kwargs):
    kwargs = {"num_inner_steps": K, "task_group_size": 1, **kwargs}
    return algorithm(TASKS, POLICY, num_tasks=N, num_episodes=E, **kwargs)


def start(algorithm):
    state = algorithm.init(jax.random.key(0))
    return state._replace(agent=state.agent._replace(params=START))


def plain_step(params, data, advantage):
    """One plain inner step, θ + α ∇ mean(log π A)."""
    gain = lambda p: plain_mean(plain_log_prob(p, data) * advantage, data)  # noqa: E731
    return ascend(params, jax.grad(gain)(params), INNER_LR)


def ascend(params, gradient, rate):
    return jax.tree.map(lambda p, g: p + rate * g, params, gradient)


def plain_ratio(params, data):
    return jnp.exp(plain_log_prob(params, data) - data.log_prob)


def test_promp_s_epochs_equal_a_plain_loop(data):
    outer_lr, clip, eta, epochs = 0.5, 0.1, 0.3, 3

    def run(inner_lr, outer_lr, clip, eta):
        algorithm = build(
            promp,
            num_epochs=epochs,
            inner_optimizer=optax.sgd(inner_lr),
            outer_optimizer=optax.sgd(outer_lr),
            clip_range=clip,
            kl_coeff=eta,
        )
        return algorithm.step(KEY, start(algorithm))

    # One program for a sweep: the first member is checked, the second only differs.
    settings = [jnp.array([x, 2 * x]) for x in (INNER_LR, outer_lr, clip, eta)]
    states, infos = jit(jax.vmap(run))(*settings)
    (new, info), (other, _) = (
        jax.tree.map(lambda x, i=i: x[i], (states, infos)) for i in range(2)
    )

    def objective(theta):
        total, divergence, clipped = 0.0, 0.0, 0
        for rounds in data:
            params = theta
            for d, a, old_params in rounds[:K]:
                divergence += plain_kl(old_params, params, d) / (N * K)
                inner = lambda p, d=d, a=a: plain_mean(plain_ratio(p, d) * a, d)  # noqa: E731
                params = ascend(params, jax.grad(inner)(params), INNER_LR)
            d, a, _ = rounds[K]
            rho = plain_ratio(params, d)
            kept = jnp.minimum(rho * a, jnp.clip(rho, 1 - clip, 1 + clip) * a)
            total += plain_mean(kept, d) / N
            clipped += jnp.sum(d.mask & (kept < rho * a))
        return total - eta * divergence, (divergence, clipped)

    params = START
    gradient = jit(jax.grad(objective, has_aux=True))
    for _ in range(epochs):
        g, (divergence, clipped) = gradient(params)
        params = ascend(params, g, outer_lr)
    # Neither the clipping nor the penalty is idle.
    assert clipped >= 3
    assert divergence > 1e-3
    assert_close(new.agent.params, params, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(info.kl, divergence, rtol=2e-3)
    assert optax.tree.norm(optax.tree.sub(new.agent.params, other.agent.params)) > 1e-2


def test_emaml_s_step_equals_a_plain_loop(data):
    algorithm = build(
        emaml,
        inner_optimizer=optax.sgd(INNER_LR),
        outer_optimizer=optax.sgd(1.0),
        correction_coeff=0.5,
    )
    new, _ = jit(algorithm.step)(KEY, start(algorithm))

    after = [rounds[K][0] for rounds in data]
    advantages = [jit(plain_advantage)(d) for d in after]
    pooled = np.concatenate(
        [
            np.asarray(a)[np.asarray(d.mask)]
            for a, d in zip(advantages, after, strict=True)
        ]
    )
    discounts = 0.99 ** np.arange(T)
    values = [np.mean(np.sum(np.asarray(d.reward) * discounts, axis=1)) for d in after]

    def objective(theta):
        total = 0.0
        for i, rounds in enumerate(data):
            params, score = theta, 0.0
            for d, a, _ in rounds[:K]:
                score += plain_mean(plain_log_prob(params, d), d) * jnp.sum(d.mask)
                params = plain_step(params, d, a)
            d = after[i]
            advantage = (advantages[i] - pooled.mean()) / pooled.std()
            total += plain_mean(plain_ratio(params, d) * advantage, d) / N
            others = np.mean([v for j, v in enumerate(values) if j != i])
            length = np.sum(d.mask) / E
            weight = 0.5 * (values[i] - others) / (length * pooled.std())
            total += weight * score / N
        return total

    expected = jit(jax.grad(objective))(START)
    moved = optax.tree.sub(new.agent.params, START)
    assert_close(moved, expected, rtol=5e-3, atol=1e-4)


class SoftmaxBandit:
    """θ are the logits of three arms."""

    def initial_memory(self):
        return ()

    def init(self, key, memory, obs):
        raise NotImplementedError

    def apply(self, params, memory, obs):
        logits = jnp.broadcast_to(params, (*obs.shape[:-1], 3))
        return Categorical(logits), jnp.zeros(obs.shape[:-1]), memory


def test_emaml_s_expected_gradient_is_exact_by_enumeration():
    """Two bandits, two pulls before adaptation and one after: all 3⁶ outcomes."""
    reward = np.array([[1.0, 0.2, -0.5], [-0.3, 0.8, 0.1]])  # [task, arm]
    theta = np.array([0.3, -0.4, 0.1])
    rate = 0.7
    pulls = np.array(list(itertools.product(range(3), repeat=3)))  # [27, 2 + 1]
    policy = SoftmaxBandit()
    scored_step = inner_loop.gradient_step(
        partial(loss_and_log_ratio, policy, surrogates.score_function),
        optax.sgd(rate),
        has_aux=True,
        differentiation="mixed",
    )

    def batch(behaviour, action, payoff, baseline):
        """E episodes of one pull each, the advantages not normalised."""
        column = action[:, None]
        log_prob = jax.nn.log_softmax(behaviour)[column]
        r = payoff[column]
        mask = jnp.ones(column.shape, bool)
        obs = jnp.ones((*column.shape, 1))
        return Batch(obs, column, log_prob, r, r - baseline, mask)

    def inner_step(x, pair, payoff, baseline):
        score = jax.nn.one_hot(pair, 3) - jax.nn.softmax(x)
        advantage = payoff[pair] - baseline
        return x + rate * jnp.mean(score * advantage[:, None], axis=0)

    def outcome(x, first, second, corrected):
        """Probability of one joint outcome and the gradient that it gives."""
        probability, batches, values = 1.0, [], []
        for action, payoff in zip((first, second), reward, strict=True):
            payoff = jnp.asarray(payoff)
            baseline = jax.nn.softmax(x) @ payoff
            adapted = inner_step(x, action[:2], payoff, baseline)
            before = batch(x, action[:2], payoff, baseline)
            after = batch(adapted, action[2:], payoff, 0.0)
            probability *= jnp.exp(jnp.sum(before.log_prob) + after.log_prob[0, 0])
            batches.append((jax.tree.map(lambda leaf: leaf[None], before), after))
            values.append(after.reward[0, 0])
        weight = corrected * less_the_others(jnp.stack(values))

        def objective(y):
            parts = [
                exploration_objective(
                    policy,
                    scored_step,
                    surrogates.likelihood_ratio,
                    Agent(y, (), optax.sgd(rate).init(y)),
                    *batches[i],
                    weight[i],
                )[0]
                for i in range(2)
            ]
            return sum(parts) / 2

        return probability, jax.grad(objective)(x)

    def truth(x, frozen):
        """I(θ); what the baseline of the inner update is, is no part of it."""
        total = 0.0
        for payoff in jnp.asarray(reward):
            baseline = jax.nn.softmax(frozen) @ payoff
            for pair in itertools.product(range(3), repeat=2):
                probability = jnp.prod(jax.nn.softmax(x)[np.array(pair)])
                adapted = inner_step(x, np.array(pair), payoff, baseline)
                total += probability * (jax.nn.softmax(adapted) @ payoff) / 2
        return total

    @jit
    def errors(x):
        first, second = (pulls[i.ravel()] for i in np.indices((27, 27)))
        exact = jax.grad(truth)(x, x)
        results = []
        for corrected in (1.0, 0.0):
            probability, gradient = jax.vmap(
                partial(outcome, corrected=corrected), in_axes=(None, 0, 0)
            )(x, first, second)
            estimate = probability @ gradient
            error = jnp.linalg.norm(estimate - exact) / jnp.linalg.norm(exact)
            results.append((jnp.sum(probability), error))
        return results

    with jax.enable_x64(True):
        (total, error), (_, without) = jax.tree.map(float, errors(theta))
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    assert error < 1e-10
    assert without > 0.03


def test_reptile_moves_towards_the_mean_of_the_adapted_models(data):
    """And with one inner step it is averaged SGD on the inner loss."""
    for num_inner_steps, outer_lr in ((1, 1.0), (K, 0.4)):
        algorithm = build(
            reptile,
            num_inner_steps=num_inner_steps,
            inner_optimizer=optax.sgd(INNER_LR),
            outer_lr=outer_lr,
        )
        new, info = jit(algorithm.step)(KEY, start(algorithm))
        if num_inner_steps == 1:
            rounds = [recorded_rounds[0] for recorded_rounds in data]

            def mean_gain(params, rounds=rounds):
                return sum(
                    plain_mean(plain_log_prob(params, d) * a, d) / N
                    for d, a, _ in rounds
                )

            expected = ascend(START, jit(jax.grad(mean_gain))(START), INNER_LR)
        else:
            adapted = [jit(plain_step)(r[K - 1][2], *r[K - 1][:2]) for r in data]
            expected = jax.tree.map(
                lambda p, *leaves: 0.6 * p + 0.4 * sum(leaves) / N, START, *adapted
            )
        assert_close(new.agent.params, expected, rtol=2e-3, atol=2e-5)
        before = np.mean([np.sum(r[0][0].reward, axis=-1) for r in data])
        np.testing.assert_allclose(info.return_before, before, rtol=1e-5)
    # What acted in these episodes is known to the tolerance of the parameters.
    after = np.mean([np.sum(r[K][0].reward, axis=-1) for r in data])
    np.testing.assert_allclose(info.return_after, after, rtol=2e-3)


class LinearScore:
    """A policy whose log-probability is θ · o a, so that its score never changes."""

    def initial_memory(self):
        return ()

    def apply(self, params, memory, obs):
        score = SimpleNamespace(log_prob=lambda action: obs @ params * action)
        return score, jnp.zeros(obs.shape[:-1]), memory


def test_every_valid_step_counts_alike_in_every_epoch_of_minibatches():
    """Episodes of 5, 1 and 2 steps dealt into two minibatches of four."""
    keys = jax.random.split(KEY, 3)
    obs = jax.random.normal(keys[0], (E, T, 2))
    action, advantage = jax.random.normal(keys[1], (2, E, T))
    mask = jnp.arange(T) < jnp.array([[5], [1], [2]])
    poisoned = jnp.where(mask, advantage, jnp.nan)
    batch = Batch(obs, action, jnp.zeros((E, T)), poisoned, poisoned, mask)
    epochs = partial(
        policy_gradient.ascend_in_epochs,
        policy=LinearScore(),
        surrogate=surrogates.score_function,
        optimizer=optax.sgd(0.1),
        params=jnp.zeros(2),
        optimizer_state=optax.sgd(0.1).init(jnp.zeros(2)),
        batch=batch,
        num_epochs=3,
        num_minibatches=2,
    )
    moved, _ = jit(epochs)(keys[2])
    valid = np.asarray(mask)
    scores = np.asarray(obs)[valid] * np.asarray(action * advantage)[valid][:, None]
    np.testing.assert_allclose(moved, 0.1 * 3 * 2 * scores.mean(axis=0), rtol=1e-5)
    # The same steps in other company: Adam's moments tell who came with whom.
    adam_epochs = partial(
        epochs, optimizer=adam(2), optimizer_state=adam(2).init(jnp.zeros(2))
    )
    first, second = jit(jax.vmap(adam_epochs))(keys[:2])[0]
    assert jnp.any(first != second)


def test_no_gradient_of_pretraining_stays_in_adams_second_moment():
    """A policy that hardly deviates has gradients of hundreds."""
    algorithm = pretraining(TASKS, POLICY, num_tasks=N, num_episodes=E, num_epochs=1)
    sure = {"params": {**START["params"], "log_std": jnp.full(2, -6.0)}}

    @jit
    def after_a_step_and_an_adaptation(key):
        state = algorithm.init(key)
        state = state._replace(agent=state.agent._replace(params=sure))
        new, _ = algorithm.step(key, state)
        task = TASKS.sample(key)
        agent = state.agent
        data = rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=E)[1]
        return new.outer_state, algorithm.adapt(key, agent, data).inner_state

    for moments, updates in zip(
        after_a_step_and_an_adaptation(KEY), (1 * 4, 10 * 4), strict=True
    ):
        (moment,) = [
            x.nu for x in jax.tree.leaves(moments, is_leaf=is_adam) if is_adam(x)
        ]
        # Of gradients of a norm of 0.5 at most.
        assert 0 < optax.tree.sum(moment) <= 0.5**2 * (1 - 0.999**updates) * 1.001


def is_adam(state):
    return isinstance(state, optax.ScaleByAdamState)


def test_pretraining_equals_a_plain_loop_on_all_tasks_at_once():
    outer_lr, clip, epochs = 0.5, 0.1, 3
    algorithm = pretraining(
        TASKS,
        POLICY,
        num_tasks=N,
        num_episodes=E,
        num_epochs=epochs,
        num_minibatches=1,
        outer_optimizer=optax.sgd(outer_lr),
        num_inner_epochs=1,
        num_inner_minibatches=1,
        inner_optimizer=optax.sgd(INNER_LR),
        clip_range=clip,
        gae_lambda=1.0,
    )
    state = start(algorithm)
    new, info = jit(algorithm.step)(KEY, state)

    @jit
    def collect(key, task):
        agent = Agent(START)
        data = rollout.collect(key, TASKS, POLICY, agent, task, num_episodes=E)[1]
        return data, plain_normalised(plain_advantage(data), data.mask)

    key_tasks, key_collect, _ = jax.random.split(KEY, 3)
    rounds = [
        collect(key, TASKS.sample(key_task))
        for key, key_task in zip(
            jax.random.split(key_collect, N),
            jax.random.split(key_tasks, N),
            strict=True,
        )
    ]
    num_valid = sum(jnp.sum(d.mask) for d, _ in rounds)

    def objective(params):
        total, clipped = 0.0, 0
        for d, a in rounds:
            rho = plain_ratio(params, d)
            kept = jnp.minimum(rho * a, jnp.clip(rho, 1 - clip, 1 + clip) * a)
            total += jnp.sum(jnp.where(d.mask, kept, 0.0)) / num_valid
            clipped += jnp.sum(d.mask & (kept < rho * a))
        return total, clipped

    params = START
    gradient = jit(jax.grad(objective, has_aux=True))
    for _ in range(epochs):
        g, clipped = gradient(params)
        params = ascend(params, g, outer_lr)
    assert clipped >= 3
    assert_close(new.agent.params, params, rtol=2e-3, atol=2e-5)
    mean_return = np.mean([np.sum(d.reward, axis=-1) for d, _ in rounds])
    np.testing.assert_allclose(info.return_before, mean_return, rtol=1e-5)
    # One epoch of one minibatch of the inner step is the step of policy gradients.
    adapted = jit(algorithm.adapt)(KEY, state.agent, rounds[0][0])
    expected = jit(plain_step)(START, *rounds[0])
    assert_close(adapted.params, expected, rtol=2e-3, atol=2e-5)


def run_two_steps(algorithm):
    """The states after one and two steps, and the last info."""
    step = jit(algorithm.step)
    first, _ = step(KEY, start(algorithm))
    second, info = step(jax.random.key(8), first)
    return first, second, info


def test_meta_sgd_with_equal_rates_held_is_maml():
    held = optax.partition(
        {"moved": optax.sgd(0.3), "held": optax.set_to_zero()}, Learned("moved", "held")
    )
    mine = run_two_steps(build(meta_sgd, initial_rate=INNER_LR, outer_optimizer=held))
    theirs = run_two_steps(
        build(
            maml,
            inner_optimizer=optax.sgd(INNER_LR),
            outer_optimizer=optax.sgd(0.3),
        )
    )
    for a, b in zip(mine[:2], theirs[:2], strict=True):
        assert_close(a.agent.params, b.agent.params, rtol=1e-4, atol=1e-6)
    moved = optax.tree.sub(mine[1].agent.params, mine[0].agent.params)
    assert optax.tree.norm(moved) > 1e-2
    for rates in jax.tree.leaves(mine[1].agent.inner_state):
        np.testing.assert_allclose(rates, INNER_LR, rtol=1e-6)


def test_meta_sgd_learns_every_rate_by_its_own_gradient(data):
    algorithm = build(meta_sgd, initial_rate=INNER_LR, outer_optimizer=optax.sgd(1.0))
    new, info = jit(algorithm.step)(KEY, start(algorithm))

    def objective(theta, rates):
        total = 0.0
        for rounds in data:
            params = theta
            for d, a, _ in rounds[:K]:
                gain = lambda p, d=d, a=a: plain_mean(plain_log_prob(p, d) * a, d)  # noqa: E731
                gradient = jax.grad(gain)(params)
                params = jax.tree.map(
                    lambda p, r, g: p + r * g, params, rates, gradient
                )
            d, a, _ = rounds[K]
            total += plain_mean(plain_ratio(params, d) * a, d) / N
        return total

    rates = jax.tree.map(lambda x: jnp.full_like(x, INNER_LR), START)
    expected = jit(jax.grad(objective, argnums=(0, 1)))(START, rates)
    moved = (
        optax.tree.sub(new.agent.params, START),
        optax.tree.sub(new.agent.inner_state, rates),
    )
    assert_close(moved, expected, rtol=2e-3, atol=2e-5)
    assert all(jnp.any(jnp.abs(x) > 1e-4) for x in jax.tree.leaves(expected))
    np.testing.assert_allclose(info.mean_rate, INNER_LR, rtol=1e-5)


def everything(path):
    return True


@pytest.mark.parametrize("adapts", [everything, head, body])
def test_anil_holds_what_does_not_adapt_and_is_maml_where_nothing_is_held(adapts):
    """Within a trust region, so that its products and line search are the same too."""
    kwargs = {
        "inner_optimizer": optax.sgd(INNER_LR, momentum=0.5),
        "outer_optimizer": TrustRegion(before_strides=(2, 2), after_strides=(1, 2)),
    }
    algorithm = build(anil, adapts=adapts, **kwargs)
    state = start(algorithm)
    task = TASKS.sample(KEY)
    _, trajectories = rollout.collect(
        KEY, TASKS, POLICY, state.agent, task, num_episodes=E
    )
    adapted = jit(algorithm.adapt)(KEY, state.agent, trajectories).params
    for path, leaf in jax.tree_util.tree_leaves_with_path(adapted):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        before = START
        for entry in path:
            before = before[entry.key]
        assert jnp.all(leaf == before) != adapts(name), name
    if adapts is not everything:
        return
    first, second, info = run_two_steps(algorithm)
    expected = run_two_steps(build(maml, **kwargs))
    for a, b in zip((first, second), expected, strict=False):
        assert_close(a.agent.params, b.agent.params, rtol=1e-3, atol=1e-5)
    assert optax.tree.norm(optax.tree.sub(second.agent.params, START)) > 1e-2
    np.testing.assert_allclose(info.kl, expected[2].kl, rtol=1e-2)
    assert 0 < info.kl <= 0.01


def test_cavia_s_step_equals_a_plain_loop_over_a_bias():
    """W (o, φ) + b = W_o o + (W_φ φ + b): a context is a bias of the first layer."""
    algorithm = build(
        cavia,
        context_size=3,
        inner_optimizer=optax.sgd(5 * INNER_LR),
        outer_optimizer=optax.sgd(1.0),
        discount=0.99,
    )
    state = algorithm.init(jax.random.key(0))
    new, _ = jit(algorithm.step)(KEY, state)

    def merged(network, context):
        first = network["params"]["hidden_0"]
        kernel, bias = first["kernel"], first["bias"]
        first = {"kernel": kernel[:2], "bias": bias + context @ kernel[2:]}
        return {"params": {**network["params"], "hidden_0": first}}

    def inner_step(network, context, d, a):
        gain = lambda c: plain_mean(plain_log_prob(merged(network, c), d) * a, d)  # noqa: E731
        return context + 5 * INNER_LR * jax.grad(gain)(context)

    theta, nothing = state.agent.params["network"], jnp.zeros(3)
    data = record(nothing, partial(inner_step, theta), partial(merged, theta))

    def objective(network):
        total = 0.0
        for rounds in data:
            context = nothing
            for d, a, _ in rounds[:K]:
                context = inner_step(network, context, d, a)
            d, a, _ = rounds[K]
            total += plain_mean(plain_ratio(merged(network, context), d) * a, d) / N
        return total

    moved = optax.tree.sub(new.agent.params["network"], theta)
    assert_close(moved, jit(jax.grad(objective))(theta), rtol=2e-3, atol=2e-5)
    assert jnp.all(jnp.abs(moved["params"]["hidden_0"]["kernel"]) > 1e-4)
    # The context, and nothing else, moves in adaptation and starts at zero again.
    assert not jnp.any(new.agent.params["context"])
    trajectories = data[0][0][0]
    adapted = jit(algorithm.adapt)(KEY, state.agent, trajectories).params
    assert_close(adapted["network"], theta, rtol=0)
    assert_close(adapted["context"], data[0][1][2], rtol=2e-3, atol=2e-5)


def test_the_antithetic_estimate_converges_to_the_smoothed_gradient():
    """E (x + σε)⁴ = x⁴ + 6σ²x² + 3σ⁴; a quadratic's gradient is not changed at all."""
    sigma, num_pairs = 0.5, 2**17
    x = {"a": jnp.array([0.7, -0.4]), "b": jnp.array(0.9)}
    keys = jax.random.split(KEY, num_pairs)
    quadratic = lambda x: jnp.sum((x["a"] - 1) ** 2) + x["a"][0] * x["b"]  # noqa: E731
    quartic = lambda x: jnp.sum(x["a"] ** 4) + x["b"] ** 4  # noqa: E731
    smoothed = jax.tree.map(lambda v: 4 * v**3 + 12 * sigma**2 * v, x)
    for function, expected in (
        (quadratic, jax.grad(quadratic)(x)),
        (quartic, smoothed),
    ):

        def estimate(key, function=function):
            return antithetic_gradient(
                key, lambda x: (function(x), ()), x, sigma=sigma
            )[0]

        draws = jit(jax.vmap(estimate))(keys)
        for draw, truth in zip(
            jax.tree.leaves(draws), jax.tree.leaves(expected), strict=True
        ):
            error = jnp.std(draw, axis=0) / num_pairs**0.5
            assert jnp.all(jnp.abs(jnp.mean(draw, axis=0) - truth) < 4 * error)
            # Sharp enough to see the smoothing.
            assert jnp.all(error < 0.05)


def test_es_maml_ascends_the_difference_of_two_adapted_returns():
    sigma = 0.5
    algorithm = build(
        es_maml,
        inner_optimizer=optax.sgd(INNER_LR),
        outer_optimizer=optax.sgd(1.0),
        sigma=sigma,
    )
    new, info = jit(algorithm.step)(KEY, start(algorithm))

    @jit
    def collect(key, params, task):
        data = rollout.collect(key, TASKS, POLICY, Agent(params), task, num_episodes=E)[
            1
        ]
        return data, plain_normalised(plain_advantage(data), data.mask)

    adapt = jit(plain_step)
    key_tasks, key_noise, key_rounds = jax.random.split(KEY, 3)
    total, returns_before = optax.tree.zeros_like(START), []
    for i in range(N):
        task = TASKS.sample(jax.random.split(key_tasks, N)[i])
        key_before, key_after = jax.random.split(jax.random.split(key_rounds, N)[i])
        round_keys = [*jax.random.split(key_before, K), key_after]
        noise = optax.tree.random_like(jax.random.split(key_noise, N)[i], START)
        for sign in (1, -1):
            params = ascend(START, noise, sign * sigma)
            for k, key in enumerate(round_keys):
                data, advantage = collect(key, params, task)
                mean_return = np.sum(data.reward) / E
                if k == 0:
                    returns_before.append(mean_return)
                params = adapt(params, data, advantage)
            total = ascend(total, noise, sign * mean_return / (2 * sigma * N))
    moved = optax.tree.sub(new.agent.params, START)
    assert optax.tree.norm(moved) > 1e-2
    assert_close(moved, total, rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(info.return_before, np.mean(returns_before), rtol=1e-5)


def adam(scale):
    return optax.adam(0.05 * scale, eps_root=1e-8)


SWEEPS = {
    promp: lambda s: {"inner_optimizer": adam(s), "kl_coeff": 0.1 * s},
    emaml: lambda s: {"inner_optimizer": adam(s), "correction_coeff": s},
    reptile: lambda s: {"inner_optimizer": adam(1.0), "outer_lr": 0.2 * s},
    meta_sgd: lambda s: {"initial_rate": 0.1 * s, "outer_optimizer": optax.adam(1e-2)},
    anil: lambda s: {
        "inner_optimizer": adam(s),
        "outer_optimizer": TrustRegion(max_kl=0.01 * s, num_cg_iterations=3),
    },
    cavia: lambda s: {"inner_optimizer": adam(s), "outer_optimizer": adam(s)},
    es_maml: lambda s: {"outer_optimizer": adam(s), "sigma": 0.1 * s},
    pretraining: lambda s: {"outer_optimizer": adam(s), "clip_range": 0.1 * s},
}


@pytest.mark.parametrize("algorithm", SWEEPS, ids=lambda f: f.__name__)
def test_scalars_are_swept_in_one_program_that_skips_what_is_not_finite(algorithm):
    """With Adam inside, whose second derivatives must be finite too."""

    kwargs = {"num_tasks": N, "num_episodes": E}
    if algorithm is not pretraining:
        kwargs |= {"num_inner_steps": K, "task_group_size": 1}

    def run(scale, discount):
        built = algorithm(
            TASKS, POLICY, discount=discount, **kwargs, **SWEEPS[algorithm](scale)
        )
        state = built.init(jax.random.key(0))
        new, info = built.step(KEY, state)
        return new.agent.params, state.agent.params, new, info

    # The last member's advantages are not finite.
    scales, discounts = jnp.array([1.0, 2.0, 1.0]), jnp.array([0.99, 0.99, jnp.nan])
    new, old, state, info = jit(jax.vmap(run))(scales, discounts)
    np.testing.assert_array_equal(info.skipped, [False, False, True])
    moved = optax.tree.sub(new, old)
    norms = [
        optax.tree.norm(jax.tree.map(lambda x, i=i: x[i], moved)) for i in range(3)
    ]
    assert norms[0] > 1e-4
    assert norms[1] > 1e-4
    assert norms[0] != norms[1]
    assert norms[2] == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def unknown(path):
    return path == "params/unknown"


@pytest.mark.parametrize(
    ("algorithm", "kwargs", "message"),
    [
        (promp, {"clip_range": 0.0}, "clip_range must be above 0; got 0.0"),
        (promp, {"kl_coeff": -1.0}, "kl_coeff must be at least 0; got -1.0"),
        (promp, {"num_epochs": 0}, "num_epochs .* got 0"),
        (emaml, {"num_tasks": 4, "task_group_size": 3}, "num_tasks; got 3 and 4"),
        (reptile, {"num_inner_steps": 0}, "num_inner_steps .* got 0"),
        (meta_sgd, {"policy": MLPPolicy(num_actions=5)}, "continuous actions"),
        (anil, {"adapts": unknown}, "params/hidden_0/bias.* it is of none"),
        (cavia, {"context_size": 0}, "context_size .* got 0"),
        *(
            (algorithm, {"discount": 1.5}, "discount must be between 0 and 1; got 1.5")
            for algorithm in SWEEPS
        ),
        (
            pretraining,
            {"num_episodes": 2, "num_inner_minibatches": 11},
            "num_inner_minibatches must be at most the 10 steps; got 11",
        ),
        (es_maml, {"sigma": 0.0}, "sigma must be above 0; got 0.0"),
        (es_maml, {"num_tasks": 4, "task_group_size": 3}, "num_tasks; got 3 and 4"),
    ],
)
def test_wrong_arguments_are_named_when_the_algorithm_is_built(
    algorithm, kwargs, message
):
    kwargs = {"policy": POLICY, **kwargs}
    with pytest.raises(ValueError, match=message):
        algorithm(TASKS, **kwargs)


def test_a_context_needs_an_observation_that_is_a_vector():
    tasks = point_navigation(horizon=T)._replace(encode=lambda obs: {"position": obs})
    with pytest.raises(ValueError, match=r"of at least one axis; .* observes"):
        cavia(tasks, POLICY)
