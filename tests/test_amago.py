"""AMAGO's parts against plain loops, exact values and what environments produce."""

import dataclasses
import itertools
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnax.environments import spaces
from jax import jit
from test_training import assert_same_state

from metarl_jax import critic_ensemble, rollout
from metarl_jax.algorithms.amago import amago
from metarl_jax.critic_ensemble import CriticEnsemble
from metarl_jax.datasets import load_dataset, read, save_dataset, windows
from metarl_jax.distributions import Categorical, TanhDiagGaussian
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.envs.dark_room import dark_room
from metarl_jax.envs.grid_navigation import grid_navigation
from metarl_jax.envs.point_navigation import point_navigation, sparse_point_navigation
from metarl_jax.memory import num_bytes
from metarl_jax.policies.exploring import (
    ExploringPolicy,
    Mixture,
    RoamingPolicy,
    Uniform,
)
from metarl_jax.policies.memory import MemoryPolicy, memory_policy
from metarl_jax.policies.mlp import MLP, mlp_policy
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.strategies.grid import PosteriorSamplingGrid
from metarl_jax.training import Evaluation, Experiment, train
from metarl_jax.types import Agent, Trajectory

E, T = 2, 3
KEY = jax.random.key(3)
FAMILIES = {
    "discrete": grid_navigation(horizon=T, size=3),
    "continuous": sparse_point_navigation(horizon=T, goal_radius=0.9),
}
GRID = FAMILIES["discrete"]


def assert_close(a, b, **kwargs):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **kwargs), a, b)


def build(kind, **kwargs):
    tasks = FAMILIES[kind]
    settings = {
        **{"num_tasks": 2, "num_episodes": E, "num_updates": 2, "batch_size": 3},
        **{"capacity": 5, "hidden_sizes": (4,), "num_critics": 3},
        "discounts": (0.5, 0.9),
    }
    squashed = {"squashed": True} if kind == "continuous" else {}
    policy = memory_policy(tasks, GRU(4), value_head=False, **squashed)
    return amago(tasks, policy, **{**settings, **kwargs})


def recorded(num_trials, num_actions, size):
    """Trials of episodes that end early, by themselves or not, and that do not."""
    rng = np.random.default_rng(0)
    lead = (num_trials, E, T)
    length = rng.integers(1, T + 1, size=lead[:2])
    length[0] = T
    mask = np.arange(T) < length[..., None]
    end = np.arange(T) == length[..., None] - 1
    terminated = end & (rng.random(lead) < 0.5)
    return Trajectory(
        obs=rng.normal(size=(*lead, size)).astype(np.float32),
        action=rng.integers(num_actions, size=lead).astype(np.int32),
        log_prob=np.zeros(lead, np.float32),
        reward=np.where(mask, rng.normal(size=lead), 0).astype(np.float32),
        next_obs=rng.normal(size=(*lead, size)).astype(np.float32),
        terminated=terminated,
        truncated=end & ~terminated,
        mask=mask,
    )


def dense(params, x):
    return x @ params["kernel"] + params["bias"]


def plain_critics(params, y, g):
    """Every critic's values of all actions, written out, `[C, A]`."""
    p = params["params"]
    rows = []
    for c in range(3):
        one = jax.tree.map(lambda x, c=c: x[c], p)
        hidden = jnp.maximum(dense(one["hidden_0"], y), 0.0)
        rows.append(dense(one["output"], hidden).reshape(2, -1)[g])
    return jnp.stack(rows)


def plain_terms(policy, params, other, data, discounts):
    """Step after step, in the order of acting; padding is never looked at.

    By discount the rows of target, Q, what is climbed and what is cloned by.
    """
    rows = {0: [], 1: []}
    fixed = jax.lax.stop_gradient(params["critic"])
    head = params["policy"]["params"]["head"]
    first = jax.tree.map(lambda x: x[0], params["actors"])
    for n in range(len(data.mask)):
        taken = [(n, *at) for at in np.argwhere(data.mask[n])]
        ys, slow = [], []
        for kept, network in ((ys, params["policy"]), (slow, other["policy"])):
            memory = policy.initial_memory()
            for at in taken:
                step = jax.tree.map(lambda x, at=at: x[tuple(at)], data)
                memory = policy.apply(network, memory, step.obs)[2]
                kept.append(memory.state)
                memory = policy.observe(memory, step)
        for i, at in enumerate(taken):
            action = data.action[tuple(at)]
            for g, actor in enumerate((first, head)):
                log_p = jax.nn.log_softmax(dense(actor["logits"], ys[i]))
                target = data.reward[tuple(at)]
                if i + 1 < len(taken):
                    p = jax.nn.softmax(dense(actor["logits"], ys[i + 1]))
                    values = plain_critics(other["critic"], slow[i + 1], g) @ p
                    target += discounts[g] * jnp.min(values)
                q = plain_critics(params["critic"], ys[i], g)[:, action]
                known = jax.lax.stop_gradient(ys[i])
                own = plain_critics(fixed, known, g) @ jnp.exp(log_p)
                entropy = -jnp.sum(jnp.exp(log_p) * log_p)
                target = jax.lax.stop_gradient(target)
                rows[g].append((target, q, own, log_p[action], entropy))
    return [[jnp.stack(x) for x in zip(*rows[g], strict=True)] for g in (0, 1)]


def test_an_update_is_that_of_a_plain_loop_over_steps_and_critics():
    """Loss and gradient, of trials of which one is full and others have gaps."""
    data, discounts = recorded(3, 5, 9), (0.5, 0.9)
    algorithm = build(
        "discrete",
        num_updates=1,
        num_target_critics=3,
        windows=lambda key, size: jax.tree.map(jnp.asarray, data),
        optimizer=optax.sgd(1.0),
        **{"climb_coeff": 0.7, "clone_coeff": 0.3, "critic_coeff": 2.0},
        **{"entropy_coeff": 0.05, "target_rate": 0.25},
    )
    state = jit(algorithm.init)(KEY)
    # Other ones, so that they cannot be taken for what they are copies of.
    other = jax.tree.map(lambda x: x + 0.1, state.target)
    state = state._replace(target=other)

    def plain_loss(params):
        terms = plain_terms(algorithm.policy, params, other, data, discounts)
        total, told = 0.0, []
        for target, q, own, log_prob, entropy in terms:
            std = jnp.std(target)
            critic = jnp.mean((q - target[:, None]) ** 2) / std**2
            better = jax.lax.stop_gradient(q.mean(1) > own.mean(1))
            climbed = jnp.mean(own.min(1)) / std
            cloned = jnp.mean(jnp.where(better, log_prob, 0.0))
            gain = 0.7 * climbed + 0.3 * cloned + 0.05 * jnp.mean(entropy)
            total += (2.0 * critic - gain) / len(terms)
            told.append(jnp.stack([critic, q.mean(), entropy.mean(), better.mean()]))
        return total, (jnp.stack(told), jnp.mean(terms[1][1]))

    def learned(state):
        return {
            "policy": state.agent.params,
            "actors": state.actors,
            "critic": state.critic,
        }

    gradient, (told, q) = jit(jax.grad(plain_loss, has_aux=True))(learned(state))
    new, info = jit(algorithm.step)(KEY, state)
    said = (info.critic_loss, info.entropy, info.imitated)
    assert_close(said, tuple(told.mean(0)[jnp.array([0, 2, 3])]), rtol=1e-4)
    assert_close(info.q, q, rtol=1e-4)
    assert 0 < info.imitated < 1
    moved = optax.tree.sub(learned(state), learned(new))
    assert_close(moved, gradient, rtol=2e-3, atol=5e-5)
    now = {"policy": new.agent.params, "critic": new.critic}
    expected = jax.tree.map(lambda x, y: 0.75 * x + 0.25 * y, other, now)
    assert_close(new.target, expected, rtol=1e-4, atol=1e-5)


def test_targets_go_through_episode_ends_and_stop_at_the_trial_s():
    rng = np.random.default_rng(1)
    reward, value = rng.normal(size=4), rng.normal(size=(4, 2))
    last = np.array([False, False, True, False])  # and one step of padding
    got = critic_ensemble.trial_targets(reward, value, last, jnp.array([0.0, 0.9]))
    for g, gamma in enumerate((0.0, 0.9)):
        expected = [
            reward[0] + gamma * value[1, g],
            reward[1] + gamma * value[2, g],
            reward[2],
        ]
        np.testing.assert_allclose(got[:3, g], expected, rtol=1e-6)


def test_what_is_better_than_the_actor_is_imitated_and_nothing_else():
    q = jnp.array([[1.0, 0.0, 2.0, 1.0], [2.0, 0.0, -3.0, 0.0]])
    value = jnp.array([[0.0, 1.0, 1.0, 0.5], [2.9, -0.9, -1.0, 0.5]])
    # Means: 1.5 against 1.45, 0 against 0.05, -0.5 against 0, and 0.5 against 0.5.
    np.testing.assert_array_equal(critic_ensemble.is_better(q, value), [1, 0, 0, 0])
    assert not np.any(jax.grad(lambda q: critic_ensemble.is_better(q, value).sum())(q))


def test_actions_at_a_bound_are_imitated_from_inside_of_it(monkeypatch):
    tasks = FAMILIES["continuous"]
    seen = tasks.observation.shape[-1]
    data = recorded(3, 2, seen)
    bound = np.stack([2.0 * data.action - 1.0] * 2, axis=-1).astype(np.float32)
    data = jax.tree.map(jnp.asarray, data._replace(action=bound))

    def gradient_norm():
        """Of imitating alone, by one update."""
        only = {"climb_coeff": 0.0, "critic_coeff": 0.0, "clone_coeff": 1.0}
        built = build(
            "continuous", windows=lambda key, size: data, num_updates=1, **only
        )
        info = jit(built.step)(KEY, jit(built.init)(KEY))[1]
        assert info.imitated > 0
        return info.gradient_norm

    inside = gradient_norm()
    monkeypatch.setattr(sys.modules[amago.__module__], "IMITATED", 1.0)
    # There u is 2.6 and here 8: its square is in the slope of the standard deviation.
    assert inside < gradient_norm() / 5


@pytest.mark.parametrize("num_actions", [None, 4], ids=["continuous", "discrete"])
def test_every_discount_s_actor_is_valued_under_its_own_discount(num_actions):
    num_critics, num_discounts, length, size = 2, 3, 5, 2
    rng = np.random.default_rng(2)
    network = MLP(num_discounts * (num_actions or 1), (3,))
    ensemble = CriticEnsemble(network, num_critics, num_discounts, num_actions)
    features = jnp.asarray(rng.normal(size=(length, size)), jnp.float32)
    shape = (num_discounts, length)
    if num_actions is None:
        actions = jnp.asarray(rng.uniform(-1, 1, size=(length, 2)), jnp.float32)
        mean = jnp.asarray(rng.normal(size=(*shape, 2)), jnp.float32)
        bound = jnp.ones((*shape, 2))
        distribution = TanhDiagGaussian(mean, -jnp.ones_like(mean), -bound, bound)
    else:
        actions = jnp.asarray(rng.integers(num_actions, size=length), jnp.int32)
        logits = jnp.asarray(rng.normal(size=(*shape, num_actions)), jnp.float32)
        distribution = Categorical(logits)
    params = ensemble.init(KEY, features[0], actions[0])
    taken = ensemble.of_taken(params, features, actions)
    expected = ensemble.expected(KEY, params, features, distribution)
    assert taken.shape == expected.shape == (num_critics, length, num_discounts)
    for c, t, g in itertools.product(
        range(num_critics), range(length), range(num_discounts)
    ):
        one = jax.tree.map(lambda x, c=c: x[c], params)
        if num_actions is None:
            drawn = distribution.sample_and_log_prob(KEY)[0][g, t]
            q = [
                network.apply(one, jnp.append(features[t], action))[g]
                for action in (actions[t], drawn)
            ]
        else:
            every = network.apply(one, features[t]).reshape(num_discounts, -1)[g]
            q = [every[actions[t]], every @ jax.nn.softmax(distribution.logits[g, t])]
        assert_close([taken[c, t, g], expected[c, t, g]], q, rtol=1e-4, atol=1e-6)


def exact_values(actor, discount, history=()):
    """Q of every history of three pulls, by dynamic programming over what may follow.

    Of two arms one pays 1, the other nothing; either is as likely. A history is of
    pairs of an arm and what it paid; `actor` gives the probabilities of the arms.
    """
    pays = [1.0 - arm if paid == 0 else arm for arm, paid in history]
    q, rows = [], {}
    for arm in (0, 1):
        # Whether it is this arm that pays: known from the first pull on.
        chance = 0.5 if not history else float(pays[0] == arm)
        value = 0.0
        for paid, probability in ((1, chance), (0, 1.0 - chance)):
            following = (*history, (arm, paid))
            ahead = 0.0
            if len(following) < 3 and probability:
                found = exact_values(actor, discount, following)
                rows |= found
                ahead = found[following] @ actor(following)
            value += probability * (paid + discount * ahead)
        q.append(value)
    return {history: np.array(q), **rows}


def two_arms():
    """Two arms of which one pays, a pull an episode."""
    tasks = bernoulli_bandit(num_arms=2, horizon=1)

    def sample(key):
        mean = jax.nn.one_hot(jax.random.randint(key, (), 0, 2), 2)
        return tasks.sample(key).replace(mean=mean)

    return tasks._replace(sample=sample, sample_heldout=sample)


def pulls(action, paying):
    """Trials of three episodes of a pull each `[N, 3, 1]`."""
    true, reward = np.ones(action.shape, bool), (action == paying).astype(np.float32)
    seen = np.asarray(two_arms().reset(KEY, two_arms().sample(KEY))[0])
    obs = np.broadcast_to(seen, (*action.shape, *seen.shape))
    return Trajectory(obs, action, 0 * reward, reward, obs, true, ~true, true)


def learned_from(windows, *, num_trials, **kwargs):
    """The algorithm, and what it made of trials of two arms."""
    tasks = two_arms()
    policy = memory_policy(tasks, GRU(12), value_head=False, hidden_sizes=(16,))
    settings = {
        **{"num_tasks": 1, "num_episodes": 3, "batch_size": num_trials},
        **{"num_updates": 1000, "hidden_sizes": (16,), "discounts": (0.5, 1.0)},
        **{"num_critics": 2, "num_target_critics": 1, "target_rate": 0.05},
    }
    rate = optax.exponential_decay(1e-2, 1000, 0.01)
    algorithm = amago(
        tasks,
        policy,
        windows=windows,
        optimizer=optax.adam(rate),
        **{**settings, **kwargs},
    )
    state, info = jit(algorithm.step)(KEY, jit(algorithm.init)(KEY))
    assert not info.skipped
    return algorithm, state


def test_the_critics_fixed_point_is_what_dynamic_programming_finds():
    """From every trial that there can be, of the actors that were learned."""
    every = [*itertools.product((0, 1), itertools.product((0, 1), repeat=3))]
    action = np.array([arms for _, arms in every], np.int32)[..., None]
    data = pulls(action, np.array([arm for arm, _ in every])[:, None, None])
    algorithm, state = learned_from(
        lambda key, size: jax.tree.map(jnp.asarray, data), num_trials=len(every)
    )
    policy, steps = algorithm.policy, jax.tree.map(lambda x: x[:, :, 0], data)
    seen, features = jit(jax.vmap(policy.recall, (None, None, 0)))(
        state.agent.params, None, steps
    )
    ensemble = CriticEnsemble(MLP(4, (16,)), 2, 2, 2)
    q = jit(jax.vmap(ensemble._of_all, (None, 0)))(state.critic, features)
    first = jax.tree.map(lambda x: x[0], state.actors)
    for g, head in enumerate((first, state.agent.params["params"]["head"])):
        logits = policy.head.apply({"params": head}, seen, features)[0].logits
        at, probability, found = {}, {}, {}
        for n, t in np.ndindex(action.shape[:2]):
            history = tuple(
                (int(arm), int(paid))
                for arm, paid in zip(
                    action[n, :t, 0], data.reward[n, :t, 0], strict=True
                )
            )
            at[history] = n, t
            probability[history] = np.asarray(jax.nn.softmax(logits[n, t]))
            found[history] = np.asarray(q[n, :, t, g])  # [C, A]
        exact = exact_values(probability.get, (0.5, 1.0)[g])
        assert len(exact) == 1 + 4 + 8
        for history, value in exact.items():
            assert_close(found[history], np.stack([value] * 2), atol=0.05)
        for history in exact:
            if history:  # then it is known which one pays
                arm, paid = history[0]
                assert probability[history][arm if paid else 1 - arm] > 0.9


def test_from_a_data_set_alone_the_optimum_is_learned_and_no_more(tmp_path):
    """The optimum is 2.5 of 3 pulls; who is recorded knows, and errs at every fifth."""
    rng = np.random.default_rng(0)
    paying, first = rng.integers(2, size=(2, 64, 1, 1))
    later = np.where(rng.random((64, 2, 1)) < 0.2, 1 - paying, paying)
    action = np.concatenate([first, later], axis=1).astype(np.int32)
    assert pulls(action, paying).reward.sum() / 64 < 2.2
    save_dataset(tmp_path / "data", pulls(action, paying))
    every = np.tile(np.arange(3), (64, 1))
    data = read(load_dataset(tmp_path / "data"), np.arange(64), every)
    algorithm, state = learned_from(
        lambda key, size: jax.tree.map(jnp.asarray, data),
        num_trials=64,
        num_updates=800,
    )
    assert state.replay == ()
    tasks = two_arms()

    def trial(key):
        key_task, key_act = jax.random.split(key)
        return rollout.collect(
            key_act,
            tasks,
            algorithm.policy,
            state.agent,
            tasks.sample(key_task),
            num_episodes=3,
        )[1].reward.sum()

    returns = jit(jax.vmap(trial))(jax.random.split(jax.random.key(1), 4000))
    mean, half = np.mean(returns), 1.96 * np.std(returns) / np.sqrt(len(returns))
    assert mean - half < 2.5
    assert mean > 2.35


RELABELLED = {
    "one-hot": lambda: grid_navigation(horizon=T + 3, size=3),
    "coordinates": lambda: grid_navigation(horizon=T + 3, observation="coordinates"),
    "dark-room": lambda: dark_room(horizon=T + 3, size=4),
    "shaped": lambda: sparse_point_navigation(horizon=12, train_reward="shaped"),
    "sparse": lambda: sparse_point_navigation(horizon=12, train_reward="sparse"),
    "mixed": lambda: sparse_point_navigation(horizon=12, train_reward="mixed"),
}


@pytest.mark.parametrize("name", RELABELLED)
def test_a_relabelled_trial_is_one_that_the_environment_produces(name):
    """The same actions from the same starts, in a task that another trial came to."""
    tasks = RELABELLED[name]()

    def produce(key, task):
        """A trial `[E, T]` of actions that do not look at the task."""
        policy = PersistentRandomPolicy(tasks.action_space)
        return rollout.collect(
            key,
            tasks,
            policy,
            Agent((), policy.initial_memory()),
            task,
            num_episodes=3,
        )[1]

    def both(key):
        key_first, key_act, key_base, key_goal = jax.random.split(key, 4)
        first = produce(key_act, tasks.sample(key_first))
        base = tasks.sample(key_base)
        task = tasks.achieved(key_goal, base, first)
        told = jax.vmap(lambda one: tasks.relabel(task, one))(first)
        return first, told, produce(key_act, task), base, task

    keys = jax.random.split(jax.random.key(0), 12)
    first, told, second, base, task = jit(jax.vmap(both))(keys)
    np.testing.assert_array_equal(first.next_obs, second.next_obs)
    np.testing.assert_array_equal(first.action, second.action)
    np.testing.assert_allclose(told, second.reward, rtol=1e-6, atol=1e-7)
    assert np.any(told != first.reward)
    if tasks.revealed_reward is not None:
        revealed = jax.vmap(
            lambda task, one: jax.vmap(lambda x: tasks.revealed_reward(task, x))(one)
        )(task, first)
        sparse = task.replace(dense=jnp.zeros(len(keys), bool))

        def replayed(key, task):
            return produce(jax.random.split(key, 4)[1], task).reward

        paid = jit(jax.vmap(replayed))(keys, sparse)
        np.testing.assert_allclose(revealed, paid, rtol=1e-6, atol=1e-7)
    # In another task it is the rest of the task that stays as it was.
    other = [x for x in dataclasses.fields(base) if x.name != "goal"]
    for field in other:
        np.testing.assert_array_equal(*(getattr(x, field.name) for x in (base, task)))
    reached = told.reshape(len(keys), -1).max(axis=1) > 0
    moved = np.any(task.goal != base.goal, axis=-1)
    assert np.all(reached[moved])
    assert np.sum(moved) >= 3
    drawn = jax.vmap(tasks.sample)(jax.random.split(KEY, 500)).goal
    for goal in task.goal:
        assert np.min(np.abs(drawn - goal).max(axis=-1)) < 1e-6


def test_a_trial_that_came_to_no_goal_is_told_another_task():
    tasks = GRID
    trial = recorded(1, 5, 9)
    still = jnp.zeros((E, T, 9)).at[..., 0].set(1.0)  # the start is never a goal
    trial = jax.tree.map(lambda x: x[0], trial)._replace(next_obs=still)
    base = tasks.sample(KEY)
    chex.assert_trees_all_equal(tasks.achieved(KEY, base, trial), base)
    # What comes after an episode's end does not count.
    there = still.at[:, -1].set(jnp.eye(9)[8])
    mask = jnp.ones((E, T), bool).at[:, -1].set(False)
    trial = trial._replace(next_obs=there, mask=mask)
    chex.assert_trees_all_equal(tasks.achieved(KEY, base, trial), base)
    met = tasks.achieved(KEY, base, trial._replace(mask=mask.at[1, -1].set(True)))
    np.testing.assert_array_equal(met.goal, [2, 2])


def test_offline_every_trial_that_is_learned_from_is_one_of_the_environment_s(
    tmp_path, monkeypatch
):
    """As recorded, or with what one goal pays for all of it, by a plain loop."""
    tasks = RELABELLED["one-hot"]()
    random = PersistentRandomPolicy(tasks.action_space, persistence=0.0)

    def history(key):
        key_task, key_act = jax.random.split(key)
        agent, task = Agent((), random.initial_memory()), tasks.sample(key_task)
        return rollout.collect(key_act, tasks, random, agent, task, num_episodes=4)[1]

    steps = jit(jax.vmap(history))(jax.random.split(KEY, 6))
    data = load_dataset(save_dataset(tmp_path / "data", jax.device_get(steps)))

    learned, recall = [], MemoryPolicy.recall

    def watched(policy, params, memory, steps):
        told = steps.obs, steps.action, steps.reward
        jax.debug.callback(lambda *told: learned.append(told), *told)
        return recall(policy, params, memory, steps)

    monkeypatch.setattr(MemoryPolicy, "recall", watched)
    policy = memory_policy(tasks, GRU(3), value_head=False)
    algorithm = amago(
        tasks,
        policy,
        windows=windows(data, num_episodes=2),
        **{"num_tasks": 1, "num_episodes": 2, "num_updates": 4, "batch_size": 4},
        **{"num_critics": 1, "num_target_critics": 1, "hidden_sizes": (3,)},
        **{"relabel_fraction": 0.5, "hindsight_fraction": 0.5, "discounts": (0.9,)},
    )
    state, info = jit(algorithm.step)(KEY, jit(algorithm.init)(KEY))
    jax.effects_barrier()
    assert not info.skipped
    assert state.replay == ()

    pairs = [(n, e) for n in range(6) for e in range(3)]  # of episodes
    recorded_as = {
        np.asarray(steps.action[n, e : e + 2]).tobytes(): (n, e) for n, e in pairs
    }
    assert len(recorded_as) == len(pairs)
    cells = jnp.array(list(np.ndindex(3, 3)))
    goals = jax.vmap(lambda cell: tasks.sample(KEY).replace(goal=cell))(cells)
    begin = jit(jax.vmap(tasks.env.reset_env, (None, 0)))
    step = jit(jax.vmap(tasks.env.step_env, (None, 0, None, 0)))

    def produced(action):
        """What the environment shows, and pays by goal, for one trial's actions."""
        obs, reward = [], []
        for t, move in enumerate(action):
            if t % tasks.horizon == 0:
                seen, now = begin(KEY, goals)
            obs.append(seen[0])
            seen, now, paid, _, _ = step(KEY, now, move, goals)
            reward.append(paid)
        return np.array(obs), np.array(reward, np.float32).T

    found = {"as recorded": 0, "of another task": 0}
    for obs, action, reward in learned:
        n, e = recorded_as[np.asarray(action).tobytes()]
        shown, paid = produced(action)
        np.testing.assert_array_equal(obs, shown)
        assert np.any(np.all(paid == reward, axis=1))
        was = np.asarray(steps.reward[n, e : e + 2]).ravel()
        found["as recorded" if np.array_equal(reward, was) else "of another task"] += 1
    assert min(found.values()) >= 4, found


@pytest.fixture(scope="module")
def states():
    """Five, from step to step, with trials replayed as those of other tasks."""
    algorithm = build(
        "discrete", num_updates=1, relabel_fraction=0.5, hindsight_fraction=0.5
    )
    chex.clear_trace_counter()
    step = jit(chex.assert_max_traces(algorithm.step, n=1))
    found = [jit(algorithm.init)(jax.random.key(0))]
    for i in range(4):
        state, info = step(jax.random.key(i), found[-1])
        found.append(state)
        assert not info.skipped
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(info))
    return found


def test_a_step_moves_all_that_is_learned(states):
    old, *_, new = states
    for field in ("agent", "actors", "critic", "target"):
        before, after = (getattr(state, field) for state in (old, new))
        if field == "agent":
            before, after = before.params, after.params
        moved = jax.tree.map(lambda x, y: np.any(x != y), before, after)
        assert all(jax.tree.leaves(moved)), field
    chex.assert_trees_all_equal(old.agent.memory, new.agent.memory)
    assert new.step == 4


def test_the_ring_holds_the_last_trials_as_they_were_made(states):
    """Two a step in a ring of five: the last two steps' and one of the step before."""
    held: list = [None] * 5
    for number, (before, state) in enumerate(itertools.pairwise(states)):
        rows, old = (
            jax.tree.map(lambda x: np.asarray(x[0]), s.replay.steps)
            for s in (state, before)
        )
        written = {(2 * number + i) % 5 for i in range(2)}
        for slot in range(5):
            one, was = (jax.tree.map(lambda x, s=slot: x[s], y) for y in (rows, old))
            if slot in written:
                held[slot] = one
                assert one.mask.all()
                assert np.any(was.next_obs != one.next_obs)
            elif held[slot] is not None:
                chex.assert_trees_all_equal(one, held[slot])
        assert state.replay.cursor[0] == 2 * (number + 1) % 5
        assert state.replay.size[0] == min(2 * (number + 1), 5)
    assert all(one is not None for one in held)
    # What was paid stays, whatever it was replayed as: one cell, all along.
    for one in held:
        cells = np.argmax(one.next_obs, axis=-1)[one.reward > 0]
        assert len(np.unique(cells)) <= 1


def test_nothing_grows_but_the_ring():
    def sizes(capacity):
        built = build("discrete", capacity=capacity)
        shapes = jax.eval_shape(built.init, KEY)
        return num_bytes(shapes.replay), num_bytes(shapes._replace(replay=()))

    (few, rest), (many, same) = sizes(100), sizes(200)
    assert same == rest
    # Of a step: two observations are not kept where no rewards are recomputed.
    per_step = 4 * (9 + 1 + 1) + 3
    assert many - few == 100 * E * T * per_step


def test_twice_n_steps_are_n_and_n_again_with_the_ring(tmp_path):
    def run(path, num_steps, resume=False):
        experiment = Experiment(
            FAMILIES["continuous"],
            build("continuous", num_updates=1),
            num_steps,
            Evaluation(1, 1, 1),
        )
        where = {"resume": path} if resume else {"output_dir": path}
        return train(experiment, name="amago", quiet=True, **where).state

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "run", 2)
    assert_same_state(run(tmp_path / "run", 4, resume=True), whole)


def test_exploring_mixes_uniform_actions_in():
    logits = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    anything = Uniform(spaces.Discrete(3))
    mixture = Mixture(Categorical(logits), anything, jnp.asarray(0.3))
    drawn = jax.vmap(mixture.sample)(jax.random.split(KEY, 20_000))
    expected = 0.7 * np.array([0.7, 0.2, 0.1]) + 0.1
    # Five standard errors.
    assert_close(np.bincount(drawn) / 20_000, expected, atol=0.017)
    got = [mixture.log_prob(jnp.asarray(action)) for action in range(3)]
    assert_close(np.exp(got), expected, rtol=1e-5)
    assert mixture.mode() == 0
    wide = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 3.0]), (2,))
    bounds = jnp.array([-1.0, 0.0]), jnp.array([1.0, 3.0])
    inner = TanhDiagGaussian(jnp.zeros(2), jnp.zeros(2), *bounds)
    mixture, at = Mixture(inner, Uniform(wide), jnp.asarray(0.4)), jnp.array([0.5, 2.0])
    density = 0.4 / 6 + 0.6 * np.exp(inner.log_prob(at))
    np.testing.assert_allclose(np.exp(mixture.log_prob(at)), density, rtol=1e-5)


def test_some_episodes_roam_and_the_memory_sees_it():
    """Beside a policy that always stays, whose memory is that of a plain loop."""
    tasks, num_trials, length = grid_navigation(horizon=8, size=3), 400, 8
    policy = memory_policy(tasks, GRU(4), value_head=False)
    params = policy.init(KEY, policy.initial_memory(), tasks.blank())
    params["params"]["head"]["logits"]["bias"] = jnp.array([99.0, 0, 0, 0, 0])
    explorer = ExploringPolicy(policy, tasks.action_space)
    explorer = RoamingPolicy(explorer, tasks.action_space, 0.3)
    agent = Agent((jnp.zeros(()), params), explorer.initial_memory())

    def trial(key):
        task = tasks.sample(key)
        return rollout.collect(key, tasks, explorer, agent, task, num_episodes=E)

    after, made = jit(jax.vmap(trial))(jax.random.split(KEY, num_trials))
    roamed = np.any(made.action != 0, axis=-1)
    # Kept up with 0.9 and a fifth of the rest; who roams may stay all along, too.
    share = 0.3 * (1 - 0.92 ** (length - 1) / 5)
    error = np.sqrt(share * (1 - share) / roamed.size)
    np.testing.assert_allclose(roamed.mean(), share, atol=4 * error)
    assert np.any(roamed[:, 0] & ~roamed[:, 1])
    assert np.any(~roamed[:, 0] & roamed[:, 1])
    kept = (made.action[..., 1:] == made.action[..., :-1])[roamed]
    np.testing.assert_allclose(kept.mean(), 0.92, atol=0.04)
    first = int(np.argmax(roamed[:, 0]))
    memory, one = policy.initial_memory(), jax.tree.map(lambda x: x[first], made)
    for at in itertools.product(range(E), range(length)):
        step = jax.tree.map(lambda x, at=at: x[at], one)
        memory = policy.observe(policy.apply(params, memory, step.obs)[2], step)
    remembered = jax.tree.map(lambda x: x[first], after.memory.memory)
    assert_close(remembered, memory, atol=1e-5)
    # Where a step does not count, nothing is remembered of it.
    new, old = (jax.tree.map(lambda x, i=i: x[i], after.memory) for i in range(2))
    assert np.any(new.memory.state != old.memory.state)
    for goes_on, expected in ((True, new), (False, old)):
        held = explorer.hold(jnp.asarray(goes_on), new, old)
        chex.assert_trees_all_equal(held.memory, expected.memory)


def test_what_roams_is_replayed():
    algorithm = build(
        "discrete", num_tasks=64, num_updates=1, capacity=64, roam_fraction=1.0
    )
    state = jit(lambda key: algorithm.step(key, algorithm.init(key))[0])(KEY)
    action = np.asarray(state.replay.steps.action)
    kept = action[..., 1:] == action[..., :-1]
    # Four standard errors; an agent that knows nothing repeats a fifth.
    error = np.sqrt(0.92 * 0.08 / kept.size)
    np.testing.assert_allclose(kept.mean(), 0.92, atol=4 * error)


def test_who_learns_from_records_does_not_explore():
    data = jax.tree.map(jnp.asarray, recorded(3, 5, 9))

    def traced(**kwargs):
        algorithm = build("discrete", windows=lambda key, size: data, **kwargs)
        state = jax.eval_shape(algorithm.init, KEY)
        return str(jax.make_jaxpr(algorithm.step)(KEY, state))

    assert traced(exploration=0.5, roam_fraction=1.0) == traced(exploration=0.0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_target_critics": 4}, "at most num_critics; got 4 and 3"),
        ({"capacity": 1}, "capacity must be at least the num_tasks=2 .* got 1"),
        ({"discounts": ()}, "discounts must be one at least"),
        ({"discounts": 0.9}, "discounts must be a tuple; got 0.9"),
        ({"discounts": (0.9, 1.1)}, "each of discounts must be between 0 and 1"),
        ({"exploration": 1.5}, "exploration must be between 0 and 1; got 1.5"),
        ({"num_updates": 0}, "num_updates .* got 0"),
    ],
)
def test_wrong_arguments_are_named_when_the_algorithm_is_built(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build("discrete", **kwargs)


def test_what_does_not_fit_is_refused():
    tasks = point_navigation(horizon=T)
    with pytest.raises(ValueError, match=r"squashed=True\) has; .* a DiagGaussian"):
        amago(tasks, memory_policy(tasks, GRU(3)))
    with pytest.raises(ValueError, match="MLPPolicy has no memory"):
        amago(GRID, mlp_policy(GRID))
    with pytest.raises(ValueError, match=r"MemoryPolicy.*; got a PosteriorSampling"):
        amago(grid_navigation(), PosteriorSamplingGrid())
    squashed = memory_policy(tasks, GRU(3), squashed=True)
    with pytest.raises(ValueError, match=r"what other tasks pay, .*; got 0.5"):
        amago(tasks, squashed, relabel_fraction=0.5)
    # From a data set, too, which is not looked at before.
    offline = {"windows": lambda key, size: pytest.fail("drawn"), "num_tasks": 1}
    with pytest.raises(ValueError, match=r"what other tasks pay, .*; got 0.1"):
        amago(tasks, squashed, relabel_fraction=0.1, **offline)
    told = tasks._replace(relabel=lambda task, steps: steps.reward)
    for where in ({}, offline):
        with pytest.raises(ValueError, match=r"what a goal is, .*; got 1.0"):
            amago(told, squashed, relabel_fraction=0.5, **where)
