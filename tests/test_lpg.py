"""Rules that are learned, and the lives they are learned from, against plain loops."""

from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax import lifetimes, rollout, tallies
from metarl_jax.algorithms.lpg import lpg
from metarl_jax.distributions import Categorical
from metarl_jax.envs.catch import catch
from metarl_jax.envs.lpg_grid import lpg_grid
from metarl_jax.envs.two_colors import two_colors
from metarl_jax.evolution import antithetic_gradient
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.tabular import tabular_policy
from metarl_jax.rule_network import Aims, Seen, UpdateRule
from metarl_jax.types import Agent

W, T, K, GAMMA, LAMBDA, INNER_LR, CRITIC_LR = 2, 6, 3, 0.9, 0.8, 0.4, 0.3
BETA, AIM_COEFF = 0.1, 0.02
KEY = jax.random.key(3)


class Linear(NamedTuple):
    """Logits and a value that are linear in the observation; of JAX's own float."""

    def init(self, key, memory, obs):
        return {
            "logits": 0.5 * jax.random.normal(key, (*obs.shape, 4)),
            "value": 0.5 * jax.random.normal(key, obs.shape),
        }

    def apply(self, params, memory, obs):
        logits = jnp.dot(obs, params["logits"])
        return Categorical(logits), jnp.dot(obs, params["value"]), memory

    def initial_memory(self):
        return ()


class PolicyGradient(NamedTuple):
    """A rule without a network: the discounted return, scaled by all that it learns."""

    def init(self, key, seen):
        return {"scale": jnp.ones(())}

    def apply(self, params, seen):
        def step(carry, inputs):
            reward, ended = inputs
            carry = reward + GAMMA * jnp.where(ended, 0.0, carry)
            return carry, carry

        start = jnp.zeros((), params["scale"].dtype)
        rewards = seen.reward.astype(start.dtype)
        _, returns = jax.lax.scan(step, start, (rewards, seen.ended), reverse=True)
        return Aims(params["scale"] * returns, jnp.log(seen.prediction))


TASKS = two_colors(size=2, horizon=5, swap_period=3)
POLICY = Linear()


def build(**options):
    return lpg(
        TASKS,
        POLICY,
        num_tasks=1,
        num_episodes=W,
        rollout_length=T,
        num_inner_steps=K,
        rule=PolicyGradient(),
        num_predictions=3,
        inner_optimizer=optax.sgd(INNER_LR),
        critic_optimizer=optax.sgd(CRITIC_LR),
        outer_optimizer=optax.sgd(1.0),
        discount=GAMMA,
        gae_lambda=LAMBDA,
        entropy_coeff=BETA,
        prediction_entropy_coeff=0.0,
        aim_coeff=AIM_COEFF,
        prediction_aim_coeff=0.0,
        **options,
    )


def plain_returns(data, discount=GAMMA):
    returns = np.zeros((W, T))
    for w in range(W):
        carry = 0.0
        for t in reversed(range(T)):
            ended = data.terminated[w, t] or data.truncated[w, t]
            carry = data.reward[w, t] + discount * (0.0 if ended else carry)
            returns[w, t] = carry
    return returns


def plain_gain(logits, data, weight, entropy_coeff=0.0):
    log_p = jax.nn.log_softmax(data.obs @ logits)
    chosen = jnp.take_along_axis(log_p, data.action[..., None], axis=-1)[..., 0]
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    return jnp.mean(chosen * weight + entropy_coeff * entropy)


def plain_advantage(value, data):
    now, after = np.asarray(data.obs @ value), np.asarray(data.next_obs @ value)
    advantage = np.zeros((W, T))
    for w in range(W):
        carry = 0.0
        for t in reversed(range(T)):
            ended = data.terminated[w, t] or data.truncated[w, t]
            delta = data.reward[w, t] + GAMMA * after[w, t] - now[w, t]
            carry = delta + GAMMA * LAMBDA * (0.0 if ended else carry)
            advantage[w, t] = carry
    return advantage, advantage + now


@pytest.fixture(scope="module")
def algorithm():
    with jax.enable_x64(True):
        found = build(lifetime=50)
        return found, found.init(jax.random.key(0))


def test_with_returns_for_a_rule_an_update_is_the_policy_gradient(algorithm):
    with jax.enable_x64(True):
        algorithm, state = algorithm
        task = TASKS.sample(KEY)
        streams = lifetimes.begin_all(KEY, TASKS, task, num_streams=W)
        _, data = lifetimes.act_all(
            KEY, TASKS, algorithm.policy, state.agent, task, streams, num_steps=T
        )
        assert data.truncated.sum() == W
        agent = jax.jit(algorithm.adapt)(KEY, state.agent, data)
        before = state.agent.params["network"]["logits"]
        step = jax.grad(plain_gain)(before, data, plain_returns(data))
        after = agent.params["network"]["logits"]
        assert np.abs(step).max() > 1e-2
        np.testing.assert_allclose(after - before, INNER_LR * step, rtol=1e-5)
        # The predictions are where they are wanted.
        old, new = (x.params["prediction"] for x in (state.agent, agent))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), old, new)


def test_the_meta_gradient_is_the_slope_of_what_becomes_of_a_life(algorithm):
    with jax.enable_x64(True):
        algorithm, state = algorithm
        new, info = jax.jit(algorithm.step)(KEY, state)
        assert not info.skipped
        gradient = 1.0 - new.agent.inner_state.rule["scale"]

        life = jax.tree.map(lambda x: x[0], state.lives)
        key = jax.random.split(jax.random.split(KEY)[0], 1)[0]
        keys = jax.random.split(key, K + 1)
        act = jax.jit(
            lambda key, params, streams: lifetimes.act_all(
                key, TASKS, POLICY, Agent(params), life.task, streams, num_steps=T
            )
        )
        slope_of_gain = jax.jit(jax.grad(plain_gain))

        def judged(scale):
            """What is to be made small, of a whole life of K updates and one look."""
            params, streams = life.agent.params["network"], life.streams
            value, total = life.critic["value"], 0.0
            for k, key in enumerate(keys):
                streams, data = act(key, params, streams)
                advantage, target = plain_advantage(value, data)
                if k > 0:
                    gain = plain_gain(params["logits"], data, advantage, BETA)
                    total -= gain / K
                error = jnp.mean(
                    2 * (data.obs @ value - target)[..., None] * data.obs, (0, 1)
                )
                value = value - CRITIC_LR * error
                if k < K:
                    aims = scale * plain_returns(data)
                    total += AIM_COEFF * np.mean(aims**2) / K
                    step = slope_of_gain(params["logits"], data, aims)
                    logits = params["logits"] + INNER_LR * step
                    params = {**params, "logits": logits}
            return total

        h = 1e-5
        slope = (judged(1 + h) - judged(1 - h)) / (2 * h)
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(gradient, slope, rtol=1e-6)


def test_which_of_two_is_better_points_uphill_whatever_the_scale():
    """The plain estimate's expectation is held to the exact one with ES-MAML's."""
    a = np.array([[2.0, 0.5], [0.5, 1.0]])
    theta = jnp.array([0.3, -0.7])
    uphill = np.array([1.0, 0.0]) - a @ np.asarray(theta)

    @jax.jit
    def estimate(key, scale):
        def function(x):
            return scale * (x[0] - x @ a @ x / 2), ()

        return antithetic_gradient(key, function, theta, sigma=0.1, ranked=True)[0]

    keys = jax.random.split(KEY, 4000)
    small, large = (
        jax.vmap(estimate, (0, None))(keys, scale) for scale in (0.01, 100.0)
    )
    np.testing.assert_allclose(small, large)
    mean = large.mean(0)
    assert mean @ uphill > 0.999 * np.linalg.norm(mean) * np.linalg.norm(uphill)


def test_a_rule_sees_what_came_after_a_step_in_its_own_episode():
    length, predictions = 5, 3
    rng = np.random.default_rng(0)
    ended = np.array([False, False, True, False, False])
    y, z = rng.dirichlet(np.ones(predictions), (2, length))
    seen = Seen(
        jnp.asarray(rng.normal(size=length), jnp.float32),
        jnp.zeros(length, bool),
        jnp.asarray(ended),
        jnp.full(length, 0.5),
        *(jnp.asarray(x, jnp.float32) for x in (y, z)),
        jnp.zeros(2),
    )
    rule = UpdateRule(predictions, size=4)
    params = rule.init(KEY, seen)

    @jax.jit
    @jax.jacobian
    def influence(reward):
        aims = rule.apply(params, seen._replace(reward=reward))
        return jnp.concatenate([aims.policy[:, None], aims.prediction], axis=-1)

    moved = np.abs(influence(seen.reward)).sum(axis=1) > 0
    episode = np.array([0, 0, 0, 1, 1])
    steps = np.arange(length)
    expected = (steps[:, None] <= steps) & (episode[:, None] == episode)
    np.testing.assert_array_equal(moved, expected)


def test_lives_go_on_through_the_ends_of_episodes():
    tasks = two_colors(size=3, horizon=4)
    policy = mlp_policy(tasks, hidden_sizes=())
    agent = Agent(policy.init(KEY, (), tasks.blank()))
    task = tasks.sample(KEY)

    @jax.jit
    def live(key, streams):
        return lifetimes.act_all(key, tasks, policy, agent, task, streams, num_steps=6)

    streams = lifetimes.begin_all(KEY, tasks, task, num_streams=2)
    pieces = []
    for i in range(2):
        streams, piece = live(jax.random.key(i), streams)
        pieces.append(piece)
    life = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *pieces)
    assert life.mask.all()
    np.testing.assert_array_equal(life.truncated, [(np.arange(12) % 4 == 3)] * 2)
    same = np.all(life.obs[:, 1:] == life.next_obs[:, :-1], axis=-1)
    assert same[~life.truncated[:, :-1]].all()
    assert not same[life.truncated[:, :-1]].all()
    np.testing.assert_array_equal(streams.time, [0, 0])


class Right(NamedTuple):
    """Always to the right."""

    def apply(self, params, memory, obs):
        return Categorical(jnp.array([-1e9, -1e9, 0.0])), 0.0, memory


def test_episodes_of_one_piece_may_begin_each_on_its_own():
    """Catch: 7 steps an episode, the paddle goes into the corner."""
    tasks = catch(permuted_buttons=False)
    task = tasks.sample(KEY)
    policy: Any = Right()

    @partial(jax.jit, static_argnames="own_starts")
    def live(key, streams, gained, own_starts):
        streams, steps = lifetimes.act_all(
            key,
            tasks,
            policy,
            Agent({}),
            task,
            streams,
            num_steps=29,
            own_starts=own_starts,
        )
        return streams, steps, *tallies.finished_returns(gained, steps)

    streams = lifetimes.begin_all(KEY, tasks, task, num_streams=3)
    streams, steps, gained, returns = live(KEY, streams, jnp.zeros(3), True)
    ended = np.zeros((3, 29), bool)
    ended[:, 6::7] = True
    np.testing.assert_array_equal(steps.terminated | steps.truncated, ended)
    np.testing.assert_array_equal(np.isfinite(returns), ended)
    np.testing.assert_array_equal(streams.time, 1)
    np.testing.assert_array_equal(gained, 0.0)
    boards = np.asarray(steps.obs).reshape(3, 29, 8, 8)
    for t in range(29):
        np.testing.assert_array_equal(boards[:, t, t % 7].sum(axis=1), 1)
        paddle = min(4 + t % 7, 7)
        np.testing.assert_array_equal(np.argmax(boards[:, t, 7], axis=1), paddle)
    column = np.argmax(boards[:, ::7, 0], axis=2)
    expected = np.where(column[:, :4] == 7, 1.0, -1.0)
    np.testing.assert_array_equal(returns[:, 6::7], expected)
    assert any(len(set(row)) > 2 for row in column[:, 1:].tolist())
    _, steps, _, _ = live(KEY, streams, gained, False)
    boards = np.asarray(steps.obs).reshape(3, 29, 8, 8)
    column = np.argmax(boards[:, 6::7, 0], axis=2)
    assert all(len(set(row)) == 1 for row in column.tolist())


def test_what_an_episode_gives_is_added_up_through_pieces():
    reward = jnp.array([[1.0, 2.0, 4.0, 8.0]])
    ended = jnp.array([[False, True, False, False]])
    data: Any = SimpleNamespace(
        reward=reward, terminated=ended, truncated=ended & False
    )
    gained, returns = tallies.finished_returns(jnp.array([0.5]), data)
    assert gained == 12.0
    np.testing.assert_array_equal(returns, [[np.nan, 3.5, np.nan, np.nan]])


@pytest.mark.parametrize(
    ("reward", "ends", "expected"),
    # Four episodes in forty steps of reward 1; two in forty; none.
    [(1.0, 4, 10.0), (1.0, 2, 20.0), (0.5, 0, 10.0)],
)
def test_a_mean_return_is_that_of_the_episodes_a_stream_is_made_of(
    reward, ends, expected
):
    count = tallies.Tally(
        jnp.full((2,), 20 * reward), jnp.full((2,), 20.0), jnp.array([ends, 0.0])
    )
    assert tallies.mean_return(count, horizon=20) == expected
    assert tallies.reward_rate(count) == reward


def test_pieces_hold_every_step_once():
    tasks = two_colors(size=3, horizon=5)
    policy = mlp_policy(tasks, hidden_sizes=())
    agent = Agent(policy.init(KEY, (), tasks.blank()))
    _, data = rollout.collect(
        KEY, tasks, policy, agent, tasks.sample(KEY), num_episodes=2
    )
    cut = lifetimes.pieces(data, num_steps=3)
    assert cut.reward.shape == (4, 3)
    for whole, piece in zip(data[:-1], cut[:-1], strict=True):
        np.testing.assert_array_equal(
            piece[cut.mask], whole.reshape(-1, *whole.shape[2:])
        )
    np.testing.assert_array_equal(cut.mask[1::2], [[True, True, False]] * 2)


@pytest.mark.parametrize("name", ["longer", "fixed", "random"])
def test_layouts_are_split_and_their_objects_stand_apart(name):
    tasks = lpg_grid(layout=name)
    env: Any = tasks.env
    size = env.size
    for sample, parity in ((tasks.sample, 0), (tasks.sample_heldout, 1)):
        batch = jax.vmap(sample)(jax.random.split(KEY, 40))
        assert not np.take_along_axis(batch.wall, batch.objects, axis=1).any()
        for row in np.asarray(batch.objects):
            assert len(set(row.tolist())) == len(row)
        if not env.is_random:
            first = np.asarray(batch.objects[:, 0])
            assert ((first // size + first % size) % 2 == parity).all()
            assert len(np.unique(first)) > 10


def test_objects_pay_end_episodes_and_come_back():
    tasks = lpg_grid(layout="sparse", observation="state")
    env: Any = tasks.env
    task = tasks.sample(KEY)
    _, state = tasks.reset(KEY, task)
    for i, reward in enumerate((1.0, -1.0)):
        # Onto the object from whichever neighbour is in the grid.
        x, y = divmod(int(task.objects[i]), env.size)
        action, start = (2, y + 1) if y + 1 < env.size else (0, y - 1)
        before = state.replace(cell=jnp.int32(x * env.size + start))
        obs, after, paid, ended = tasks.step(KEY, before, jnp.int32(action), task)
        assert (float(paid), bool(ended)) == (reward, True)
        assert not after.present[i]
        assert obs == sum(2**j * bool(p) for j, p in enumerate(after.present)) * (
            env.size**2
        ) + int(task.objects[i])
    tasks = lpg_grid(layout="random-very-dense")
    task = tasks.sample(KEY)
    _, state = tasks.reset(KEY, task)
    gone = state.replace(present=jnp.zeros(1, bool))
    _, after, paid, ended = tasks.step(KEY, gone, jnp.int32(0), task)
    assert after.present.all()
    assert not ended
    assert paid == 0


def test_a_table_learns_where_states_are_numbers_and_nowhere_else():
    tasks = lpg_grid(layout="sparse", observation="state", horizon=5)
    policy = tabular_policy(tasks, value_head=True)
    params: Any = policy.init(KEY, (), tasks.blank())
    assert params["params"]["logits"]["table"].shape == (13 * 13 * 4, 4)
    with pytest.raises(ValueError, match="the number of a state"):
        tabular_policy(TASKS)
    with pytest.raises(ValueError, match="features where objects are random"):
        lpg_grid(layout="random", observation="state")
