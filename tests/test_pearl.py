"""PEARL's parts against closed forms and loops; an update and a run as a whole."""

from collections import Counter
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from jax import jit
from jax.flatten_util import ravel_pytree
from test_training import assert_same_state

from metarl_jax import evaluation, replay_buffer, soft_actor_critic
from metarl_jax.algorithms.pearl import pearl
from metarl_jax.distributions import Categorical, TanhDiagGaussian
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.envs.point_navigation import point_navigation, sparse_point_navigation
from metarl_jax.policies.latent import prior
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.soft_actor_critic import Transition, TwinCritic
from metarl_jax.training import Evaluation, Experiment, train
from metarl_jax.types import Trajectory


def assert_close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


def test_a_belief_is_the_product_of_gaussians_in_any_order_and_portions():
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(6, 2))
    variance = rng.uniform(0.3, 3.0, size=(6, 2))
    mask = np.array([True, True, False, True, False, True])

    @jit
    def compute():
        def update(belief, rows):
            return belief.update(mean[rows], 1.0 / variance[rows], mask[rows])

        batch = update(prior(2), np.arange(6))
        shuffled = update(prior(2), np.array([3, 5, 2, 0, 4, 1]))
        portions = update(update(prior(2), np.arange(2)), np.arange(2, 6))
        draws = jax.vmap(batch.sample)(jax.random.split(jax.random.key(0), 20_000)).z
        moments = batch.mean, batch.variance, batch.kl_from_prior()
        return batch, shuffled, portions, moments, draws

    batch, shuffled, portions, (means, variances, kl), draws = compute()
    assert_close(shuffled, batch, rtol=1e-6)
    assert_close(portions, batch, rtol=1e-6)
    # Pointwise, on a grid: the product of the densities, normalised.
    z, expected_kl = np.linspace(-6, 6, 4001), 0.0
    for d in range(2):
        product = scipy.stats.norm.pdf(z)
        for i in np.flatnonzero(mask):
            product *= scipy.stats.norm.pdf(z, mean[i, d], np.sqrt(variance[i, d]))
        product /= np.trapezoid(product, z)
        m = np.trapezoid(z * product, z)
        v = np.trapezoid((z - m) ** 2 * product, z)
        np.testing.assert_allclose(means[d], m, atol=1e-5)
        np.testing.assert_allclose(variances[d], v, rtol=1e-5)
        ratio = np.log(np.maximum(product, 1e-300)) - scipy.stats.norm.logpdf(z)
        expected_kl += np.trapezoid(product * ratio, z)
        # Five standard errors over 20 000 samples.
        assert abs(np.mean(draws[:, d]) - m) < 0.036 * np.sqrt(v)
        assert abs(np.std(draws[:, d]) / np.sqrt(v) - 1) < 0.026
    np.testing.assert_allclose(kl, expected_kl, rtol=1e-5)


def test_a_ring_holds_the_last_valid_steps_of_each_task():
    rng = np.random.default_rng(1)
    num_tasks, capacity, length = 3, 7, 5
    step = {"x": jnp.zeros(2), "n": jnp.zeros((), jnp.int32)}
    buffer = replay_buffer.empty(step, num_tasks=num_tasks, capacity=capacity)
    add = jit(replay_buffer.add)
    rings = [[None] * capacity for _ in range(num_tasks)]
    written = [0] * num_tasks
    for number in range(9):
        chosen = rng.permutation(num_tasks)[:2]
        steps = {
            "x": rng.normal(size=(2, length, 2)).astype(np.float32),
            "n": rng.integers(1, 1000, size=(2, length)).astype(np.int32),
        }
        mask = rng.random((2, length)) < (0.0 if number == 3 else 0.7)
        buffer = add(buffer, chosen, steps, mask)
        for i, task in enumerate(chosen):
            for t in np.flatnonzero(mask[i]):
                slot = written[task] % capacity
                rings[task][slot] = steps["x"][i, t], steps["n"][i, t]
                written[task] += 1
        np.testing.assert_array_equal(buffer.size, np.minimum(written, capacity))
        np.testing.assert_array_equal(buffer.cursor, np.mod(written, capacity))
    assert min(written) > capacity
    for task in range(num_tasks):
        for slot, (x, n) in enumerate(rings[task]):
            np.testing.assert_array_equal(buffer.steps["x"][task, slot], x)
            assert buffer.steps["n"][task, slot] == n
    with pytest.raises(ValueError, match="at most the capacity of 7; got 8"):
        replay_buffer.add(buffer, chosen, steps, np.ones((2, 8), bool))


def test_sampling_is_uniform_over_what_is_there():
    step = jnp.zeros((), jnp.int32)
    buffer = replay_buffer.empty(step, num_tasks=3, capacity=9)
    values = np.array([[1, 2, 3, 4, 5], [7, 0, 8, 0, 9]], np.int32)
    buffer = replay_buffer.add(buffer, np.array([0, 2]), values, values > 0)
    task = np.array([2, 0, 2])
    drawn = replay_buffer.sample(jax.random.key(0), buffer, task, size=6000)
    for row, held in zip(drawn, ([7, 8, 9], [1, 2, 3, 4, 5], [7, 8, 9]), strict=True):
        found, counts = np.unique(row, return_counts=True)
        np.testing.assert_array_equal(found, held)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
    assert np.mean(drawn[0] == drawn[2]) < 0.5


def test_what_was_known_is_what_the_trial_had_shown_before_the_episode():
    """Task 0 has gone round its ring, task 1 has not; values count the steps."""
    rng = np.random.default_rng(3)
    num_episodes, capacity, size = 3, 14, 3
    zero = jnp.zeros((), jnp.int32)
    buffer = replay_buffer.empty(
        replay_buffer.Placed(zero, zero, zero), num_tasks=2, capacity=capacity
    )
    taken = [], []  # of each task: its steps, each with what was known
    for task in (0, 1, 0, 0):
        # Episodes of one step or two: a trial of three, and one that is cut short.
        mask = np.arange(2) < rng.integers(1, 3, size=(5, 1))
        values = len(taken[task]) + np.cumsum(mask).reshape(mask.shape) - 1
        for begin in (0, num_episodes):
            known = []
            for episode in range(begin, min(begin + num_episodes, 5)):
                steps = values[episode][mask[episode]]
                taken[task].extend((step, list(known)) for step in steps)
                known.extend(steps)
        placed = replay_buffer.place(values, mask, num_episodes=num_episodes)
        placed, flat = jax.tree.map(lambda x: jnp.reshape(x, (1, -1)), (placed, mask))
        buffer = replay_buffer.add(buffer, np.array([task]), placed, flat)

    steps, mask = jax.tree.map(
        np.asarray,
        replay_buffer.prefix(
            jax.random.key(0), buffer, np.tile([0, 1], 3000), size=size
        ),
    )
    assert len(taken[0]) > capacity > len(taken[1])
    for task in (0, 1):
        held = taken[task][-capacity:]
        expected = Counter(
            tuple(x for x in known[:size] if x >= held[0][0]) for _, known in held
        )
        assert max(map(len, expected)) == size
        found = Counter(
            tuple(row[valid])
            for row, valid in zip(steps[task::2], mask[task::2], strict=True)
        )
        assert found.keys() == expected.keys()
        counts = np.array([(found[x], expected[x]) for x in expected])
        frequency = counts[:, 1] / len(held) * 3000
        assert scipy.stats.chisquare(counts[:, 0], frequency).pvalue > 1e-3


def test_random_actions_are_kept_up_as_long_as_they_should_be():
    tasks = point_navigation(horizon=30)
    policy = PersistentRandomPolicy(tasks.env.action_space(), persistence=0.8)

    @jit
    def act(key):
        def step(memory, _):
            distribution, _, memory = policy.apply((), memory, jnp.zeros(2))
            return memory, distribution.sample(key)

        memory = policy.begin(key, policy.initial_memory())
        return jax.lax.scan(step, memory, None, length=20_000)[1]

    actions = act(jax.random.key(0))
    changed = np.any(actions[1:] != actions[:-1], axis=-1)
    # Five standard errors.
    assert abs(np.mean(changed) - 0.2) < 5 * np.sqrt(0.16 / len(changed))
    fresh = actions[1:][changed]
    for axis in range(2):
        assert scipy.stats.kstest(fresh[:, axis], "uniform", (-1, 2)).pvalue > 1e-3


def test_the_target_bootstraps_where_time_ran_out_and_not_where_it_ended():
    """A step in the middle, one that ended the episode and a truncated one."""
    trajectory = Trajectory(
        obs=np.zeros((4, 1)),
        action=np.zeros(4),
        log_prob=np.zeros(4),
        reward=np.array([1.0, -2.0, 0.5, np.nan]),
        next_obs=np.zeros((4, 1)),
        terminated=np.array([False, True, False, False]),
        truncated=np.array([False, False, True, False]),
        mask=np.ones(4, bool),
    )
    steps, mask = soft_actor_critic.transitions(trajectory)
    np.testing.assert_array_equal(mask, [True, True, True, False])
    target = soft_actor_critic.td_target(
        steps.reward,
        steps.terminated,
        np.array([10.0, np.nan, 4.0, 1.0]),
        discount=0.9,
    )
    np.testing.assert_allclose(target[:3], [1 + 9, -2, 0.5 + 3.6], rtol=1e-6)


class Linear:
    """In place of a network: an affine function of its input."""

    def apply(self, params, x):
        return x @ params["w"] + params["b"]


class LinearActor:
    """Its head by the kind of actions."""

    def __init__(self, num_actions):
        self.num_actions = num_actions

    def apply(self, params, memory, obs):
        y = Linear().apply(params, obs)
        if self.num_actions:
            return Categorical(y), jnp.zeros(obs.shape[:-1]), memory
        mean, log_std = jnp.split(y, 2, axis=-1)
        bounds = jnp.full_like(mean, -1.0), jnp.full_like(mean, 3.0)
        return TanhDiagGaussian(mean, log_std, *bounds), None, memory


ALPHA, GAMMA = 0.3, 0.9


@pytest.mark.parametrize("num_actions", [None, 3], ids=["continuous", "discrete"])
def test_the_losses_are_those_of_the_paper_and_stop_where_they_should(num_actions):
    """Values against NumPy, gradients against finite differences, in float64."""
    rng = np.random.default_rng(2)
    batch, obs_size = 5, 2

    def draw(*shape):
        return rng.normal(size=shape)

    def linear(num_in, num_out):
        return {"w": draw(num_in, num_out), "b": draw(num_out)}

    with jax.enable_x64(True):
        actor, critic = LinearActor(num_actions), TwinCritic(Linear(), num_actions)
        num_in = obs_size if num_actions else obs_size + 1
        params = {
            "actor": linear(obs_size, num_actions or 2),
            "critic": tuple(linear(num_in, num_actions or 1) for _ in range(2)),
        }
        target = tuple(linear(num_in, num_actions or 1) for _ in range(2))
        steps = Transition(
            obs=draw(batch, obs_size),
            action=rng.integers(3, size=batch) if num_actions else draw(batch, 1),
            reward=draw(batch),
            next_obs=draw(batch, obs_size),
            terminated=np.arange(batch) == 1,
        )
        key = jax.random.key(3)
        noise = np.asarray(jax.random.normal(key, (batch, 1), jnp.float64))

        def values(p, obs, action):
            if num_actions:
                q = [obs @ one["w"] + one["b"] for one in p]
                return q if action is None else [x[np.arange(batch), action] for x in q]
            x = np.concatenate([obs, action], axis=-1)
            return [(x @ one["w"] + one["b"])[:, 0] for one in p]

        def soft_value(actor_params, critic_params, obs):
            y = obs @ actor_params["w"] + actor_params["b"]
            if num_actions:
                p = np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)
                q = np.minimum(*values(critic_params, obs, None))
                return (p * (q - ALPHA * np.log(p))).sum(-1), -(p * np.log(p)).sum(-1)
            u = y[:, :1] + np.exp(y[:, 1:]) * noise
            action = 1 + 2 * np.tanh(u)
            density = scipy.stats.norm.pdf(u, y[:, :1], np.exp(y[:, 1:]))
            log_prob = np.log(density * np.cosh(u) ** 2 / 2)[:, 0]
            q = np.minimum(*values(critic_params, obs, action))
            return q - ALPHA * log_prob, -log_prob

        next_value = soft_value(params["actor"], target, steps.next_obs)[0]
        y = steps.reward + GAMMA * np.where(steps.terminated, 0, next_value)

        def plain_critic_loss(p, obs):
            q = values(p["critic"], obs, steps.action)
            return sum(np.mean((one - y) ** 2) for one in q)

        def plain_actor_loss(p, obs):
            return -np.mean(soft_value(p["actor"], params["critic"], obs)[0])

        def critic_loss(p, obs):
            return soft_actor_critic.critic_loss(
                key,
                actor,
                p["actor"],
                critic,
                p["critic"],
                target,
                steps._replace(obs=obs),
                temperature=ALPHA,
                discount=GAMMA,
            )

        def actor_loss(p, obs):
            return soft_actor_critic.actor_loss(
                key, actor, p["actor"], critic, p["critic"], obs, temperature=ALPHA
            )

        def compute(loss):
            return jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
                params, steps.obs
            )

        (loss, mean_q), (gradient, to_obs) = compute(critic_loss)
        np.testing.assert_allclose(loss, plain_critic_loss(params, steps.obs))
        q = values(params["critic"], steps.obs, steps.action)[0]
        np.testing.assert_allclose(mean_q, np.mean(q))
        assert_finite_differences(
            plain_critic_loss, (params, steps.obs), (gradient, to_obs)
        )
        assert optax.tree.norm(gradient["actor"]) == 0
        assert optax.tree.norm(to_obs) > 0.1

        (loss, entropy), (gradient, to_obs) = compute(actor_loss)
        np.testing.assert_allclose(loss, plain_actor_loss(params, steps.obs))
        expected = soft_value(params["actor"], params["critic"], steps.obs)[1]
        np.testing.assert_allclose(entropy, np.mean(expected))
        assert_finite_differences(
            lambda p, obs: plain_actor_loss(p, steps.obs),
            (params, steps.obs),
            (gradient, to_obs),
        )
        assert optax.tree.norm(gradient["critic"]) == 0
        assert optax.tree.norm(gradient["actor"]) > 0.1


def assert_finite_differences(function, args, gradient):
    """Compares every derivative; a function may be constant in some arguments."""
    leaves, structure = jax.tree.flatten(args)
    for i, leaf in enumerate(leaves):
        for index in np.ndindex(leaf.shape):
            values = []
            for sign in (1, -1):
                moved = [np.array(x) for x in leaves]
                moved[i][index] += sign * 1e-6
                values.append(function(*jax.tree.unflatten(structure, moved)))
            expected = (values[0] - values[1]) / 2e-6
            found = jax.tree.leaves(gradient)[i][index]
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


T = 3
FAMILIES = {
    "continuous": sparse_point_navigation(horizon=T, max_step=0.5),
    "discrete": grid_navigation(horizon=T, size=3),
}


def sparse_reward(task, trajectory):
    distance = jnp.linalg.norm(trajectory.next_obs - task.goal, axis=-1)
    return jnp.where(distance <= 0.2, 1.0 - distance, 0.0)


def build(kind, **kwargs):
    """Three tasks, of which a step acts in two; two updates unless told otherwise."""
    tasks = FAMILIES[kind]
    if kind == "continuous":
        kwargs = {"context_reward": sparse_reward, **kwargs}
    settings = {
        "num_tasks": 2,
        "num_episodes": 2,
        "num_train_tasks": 3,
        "num_initial_episodes": 3,
        "num_updates": 2,
        "batch_size": 4,
        "context_size": 5,
        "trial_fraction": 0.5,
        "capacity": 11,
        "recent_capacity": 9,
        "latent_size": 2,
        "hidden_sizes": (4,),
        "encoder_hidden_sizes": (4,),
        "discount": 0.9,
    }
    policy = mlp_policy(tasks, squashed=kind == "continuous", hidden_sizes=(4,))
    return pearl(tasks, policy, **{**settings, **kwargs})


@pytest.fixture(scope="module", params=FAMILIES)
def stepped(request):
    """An algorithm and its state before and after each of two steps."""
    algorithm = build(request.param, target_entropy=-1.0)
    chex.clear_trace_counter()
    step = jit(chex.assert_max_traces(algorithm.step, n=1))
    states = [jit(algorithm.init)(jax.random.key(0))]
    for i in range(2):
        state, info = step(jax.random.key(i), states[-1])
        states.append(state)
        assert not info.skipped
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(info))
    return request.param, algorithm, states


def test_a_step_moves_all_that_is_learned_and_remembers_what_it_saw(stepped):
    kind, _, states = stepped
    old, _, new = states
    for field in ("agent", "critic", "target_critic", "log_temperature"):
        before, after = (jax.tree.leaves(getattr(s, field)) for s in (old, new))
        moved = [np.any(x != y) for x, y in zip(before, after, strict=True)]
        # All but the belief that a trial begins with.
        assert sum(moved) == len(moved) - (3 if field == "agent" else 0)
    chex.assert_trees_all_equal(old.tasks, new.tasks)
    assert_close(new.agent.memory, prior(2))

    # Each task was acted in for 3 episodes, and for 2 more in each step it was in.
    np.testing.assert_array_equal(old.replay.cursor, [9, 9, 9])
    num_trials = {9: 0, 15 - 11: 1, 21 - 11: 2}
    assert sum(num_trials[int(cursor)] for cursor in new.replay.cursor) == 4
    # Trials have two episodes of three steps.
    for task in range(3):
        placed = old.recent.steps
        np.testing.assert_array_equal(placed.position[task], [*range(6), 0, 1, 2])
        np.testing.assert_array_equal(placed.known[task], [0, 0, 0, 3, 3, 3, 0, 0, 0])
    if kind == "discrete":
        return
    for task in range(3):
        goal = np.asarray(new.tasks.goal[task])
        for steps, dense in ((new.replay.steps, True), (new.recent.steps.step, False)):
            place = np.asarray(steps.next_obs[task])
            distance = np.linalg.norm(place - goal, axis=-1)
            sparse = np.where(distance <= 0.2, 1 - distance, 0)
            expected = -distance if dense else sparse
            np.testing.assert_allclose(steps.reward[task], expected, atol=1e-6)


def test_inference_takes_episodes_in_any_order_and_portions(stepped):
    kind, algorithm, states = stepped
    agent, tasks = states[-1].agent, FAMILIES[kind]
    key = jax.random.key(5)

    @jit
    def compute(agent):
        task = tasks.sample_heldout(key)
        _, data = evaluation.rollout.collect(
            key, tasks, algorithm.policy, agent, task, num_episodes=3
        )
        data = data._replace(mask=data.mask.at[1, 1:].set(False))

        def take(*rows):
            return jax.tree.map(lambda x: x[np.array(rows)], data)

        together = algorithm.adapt(key, agent, data).memory
        reversed_ = algorithm.adapt(key, agent, take(2, 1, 0)).memory
        for i in range(3):
            agent = algorithm.adapt(key, agent, take(i))
        broken = data._replace(reward=jnp.where(data.mask, data.reward, jnp.nan))
        unread = algorithm.adapt(key, states[-1].agent, broken).memory
        return together, reversed_, agent.memory, unread, data.mask

    together, reversed_, portions, unread, mask = compute(agent)
    assert np.sum(mask) == 7
    for other in (reversed_, portions, unread):
        assert_close(other, together, rtol=1e-5, atol=1e-6)
    assert np.all(together.precision > 1.0)
    returns = jit(
        lambda agent: evaluation.evaluate(
            key,
            tasks,
            algorithm.policy,
            algorithm.adapt,
            agent,
            num_tasks=2,
            num_episodes=1,
            num_adaptation_steps=2,
        )
    )(agent)
    assert returns.shape == (2, 3)


def test_the_encoder_learns_from_the_critic_and_the_divergence_alone():
    """Scalars swept in one program. Without a future, γ = 0, the critic has no use for
    the actor, and so the temperature is the actor's alone. The temperature itself goes
    up where the entropy is less than its target, and down where it is more."""
    target = 0.25

    def move(temperature, kl_coeff, discount):
        algorithm = build(
            "continuous",
            num_updates=1,
            optimizer=optax.sgd(1.0),
            temperature=temperature,
            kl_coeff=kl_coeff,
            discount=discount,
            target_entropy=target,
        )
        old = algorithm.init(jax.random.key(0))
        new, info = algorithm.step(jax.random.key(1), old)
        warmer = new.log_temperature - old.log_temperature
        moved = optax.tree.sub(
            (new.agent.params, new.critic, new.target_critic),
            (old.agent.params, old.critic, old.target_critic),
        )
        return moved, new.replay.cursor, info.skipped, warmer, info.entropy

    settings = [(0.1, 0, 0), (0.9, 0, 0), (0.1, 1, 0), (0.1, 2, 0), (0.1, 0, np.nan)]
    (agents, critics, targets), cursor, skipped, warmer, entropy = jit(jax.vmap(move))(
        *jnp.array(settings).T
    )
    np.testing.assert_array_equal(skipped, [False] * 4 + [True])
    assert np.abs(entropy[0] - target) > 0.1
    # ∂/∂log α of log α (H - H̄), descended at a rate of 1.
    assert_close(warmer[:4], target - entropy[:4], rtol=1e-4)

    def row(tree, i):
        return ravel_pytree(jax.tree.map(lambda x: x[i], tree))[0]

    encoder, actor = (partial(row, agents[k]) for k in ("encoder", "actor"))
    assert np.linalg.norm(encoder(0)) > 1e-4
    assert_close(encoder(1), encoder(0), rtol=1e-5, atol=1e-7)
    assert np.linalg.norm(actor(1) - actor(0)) > 1e-3
    by_divergence = encoder(2) - encoder(0)
    assert np.linalg.norm(by_divergence) > 1e-4
    assert_close(encoder(3) - encoder(0), 2 * by_divergence, rtol=1e-3, atol=1e-6)
    assert_close(actor(3), actor(0), rtol=1e-5, atol=1e-7)
    assert_close(row(targets, 0), 0.005 * row(critics, 0), rtol=1e-2, atol=1e-7)
    # What is not finite is left out; what was seen meanwhile is kept.
    for tree in (agents, critics, targets):
        assert not np.any(row(tree, 4))
    np.testing.assert_array_equal(cursor[4], cursor[0])


def test_twice_n_steps_are_n_and_n_again_with_the_buffers(tmp_path):
    def run(path, num_steps, resume=False):
        algorithm = build("continuous")
        experiment = Experiment(
            FAMILIES["continuous"], algorithm, num_steps, Evaluation(1, 1, 1)
        )
        where = {"resume": path} if resume else {"output_dir": path}
        return train(experiment, name="pearl", quiet=True, **where).state

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "run", 2)
    assert_same_state(run(tmp_path / "run", 4, resume=True), whole)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_updates": 0}, "num_updates .* got 0"),
        ({"context_size": 0}, "context_size .* got 0"),
        ({"num_tasks": 4}, "at most num_train_tasks; got 4 and 3"),
        ({"capacity": 8}, "capacity must be at least the 9 steps .* got 8"),
        ({"recent_capacity": 8}, "recent_capacity must be at least the 9 .* got 8"),
        ({"temperature": 0.0}, "temperature must be above 0; got 0.0"),
        ({"target_rate": 1.5}, "target_rate must be between 0 and 1; got 1.5"),
        ({"trial_fraction": 2.0}, "trial_fraction must be between 0 and 1"),
        ({"discount": -0.1}, "discount must be between 0 and 1; got -0.1"),
    ],
)
def test_wrong_arguments_are_named_when_the_algorithm_is_built(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build("continuous", **kwargs)


def test_an_actor_that_does_not_fit_is_refused():
    tasks = point_navigation(horizon=T)
    with pytest.raises(ValueError, match=r"squashed=True\) has; .* a DiagGaussian"):
        pearl(tasks, mlp_policy(tasks))
    with pytest.raises(ValueError, match="GridNavigation has 5 discrete actions"):
        pearl(FAMILIES["discrete"], mlp_policy(tasks, squashed=True))
    with pytest.raises(ValueError, match=r"PersistentRandomPolicy has memory"):
        pearl(tasks, PersistentRandomPolicy(tasks.env.action_space()))
    named = tasks._replace(encode=lambda obs: {"position": obs})
    with pytest.raises(ValueError, match=r"must be a vector or an image; .* observes"):
        pearl(named, mlp_policy(tasks, squashed=True))
