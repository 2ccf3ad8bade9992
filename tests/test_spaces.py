"""What lies between a policy's numbers and an environment's, space by space."""

import importlib
from typing import Any

import flax.linen as nn
import gymnasium.spaces as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.environments.misc import FrozenLake

from metarl_jax import rollout
from metarl_jax.algorithms.cavia import cavia
from metarl_jax.algorithms.pearl import pearl
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.algorithms.varibad import varibad
from metarl_jax.distributions import Categorical, DiagGaussian
from metarl_jax.envs.classic_control import pendulum
from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.spaces import draw, encoder, given, to_gymnasium
from metarl_jax.types import Agent

NAN, INF = float("nan"), float("inf")
# No number in single precision is this one: equal bounds keep the nearest.
TENTH = 0.1


@pytest.mark.parametrize(
    ("space", "drawn", "expected"),
    [
        (spaces.Box(-2, 0, (3,)), [-12.1, -0.5, 3.0], [-2.0, -0.5, 0.0]),
        (spaces.Box(-INF, 1, (2,)), [-1e9, 7.0], [-1e9, 1.0]),
        (
            gym.Box(np.array([0, -INF], np.float32), np.array([INF, 0], np.float32)),
            [-3.0, 5.0],
            [0.0, 0.0],
        ),
        (gym.Box(TENTH, TENTH, (1,), np.float64), [-3.0], [np.float32(0.1)]),
        (spaces.Box(-1, 1, (2,)), [NAN, 5.0], [NAN, 1.0]),
        (spaces.Box(-1, 1, (2,), jnp.int32), [0.6, -INF], [1, -1]),
        (spaces.Box(0, 255, (3,), jnp.uint8), [-3.0, 254.6, 1e9], [0, 255, 255]),
        (spaces.Box(0, 255, (2,), jnp.uint8), [-3, 300], [0, 255]),
        (spaces.Box(0, 2**31 - 1, (), jnp.int32), 1e12, 2**31 - 128),
        (spaces.Box(-INF, INF, (2,), jnp.int32), [-INF, 7.2], [-(2**31), 7]),
        (spaces.Discrete(3), 2, 2),
        (gym.Discrete(3, start=-1), 2, 1),
    ],
)
def test_an_environment_is_given_an_action_of_its_space(space, drawn, expected):
    action = jax.jit(lambda drawn: given(space, drawn))(jnp.asarray(drawn))
    assert action.dtype == jax.dtypes.canonicalize_dtype(space.dtype)
    np.testing.assert_array_equal(action, expected)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-3, 123.456])
def test_a_bound_in_double_precision_is_kept_in_single_precision(value):
    for low, high in [(-value, value), (value, 2 * value), (-value, INF)]:
        space = gym.Box(np.full(2, low), np.full(2, high), dtype=np.float64)
        action = np.float64(given(space, jnp.array([-INF, INF])))
        assert np.all(action >= low)
        assert np.all(action <= high)


@pytest.mark.parametrize(
    ("space", "obs", "expected"),
    [
        (spaces.Discrete(4), 2, [0, 0, 1, 0]),
        (spaces.Discrete(2), 2, [NAN, NAN]),
        (gym.Discrete(3, start=5), np.int64(6), [0, 1, 0]),
        (gym.MultiDiscrete([2, 3], start=[1, 0]), np.array([2, 1]), [0, 1, 0, 1, 0]),
        (gym.MultiDiscrete([[2], [2]]), np.array([[1], [0]]), [0, 1, 1, 0]),
        (gym.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
        (
            spaces.Box(0, 255, (1, 2), jnp.uint8),
            np.array([[51, 255]], np.uint8),
            [[0.2, 1.0]],
        ),
        (spaces.Box(0, 3, (2,), jnp.uint8), np.array([2, 3], np.uint8), [2, 3]),
        (spaces.Box(-1, 9, (2,), jnp.int32), np.array([-1, 7], np.int32), [-1, 7]),
        (
            spaces.Box(0, 255, (2,)),
            np.array([254, 0.3], np.float32),
            np.array([254, 0.3], np.float32),
        ),
        (
            spaces.Dict(
                {
                    "b": spaces.Tuple([gym.MultiBinary((1, 2)), spaces.Discrete(2)]),
                    "a": spaces.Box(-1, 1, (2, 1)),
                }
            ),
            {
                "b": (np.array([[0, 1]], np.int8), 0),
                "a": np.array([[0.5], [-0.5]], np.float32),
            },
            [0.5, -0.5, 0, 1, 1, 0],
        ),
    ],
)
def test_networks_read_floats(space, obs, expected):
    encoded = jax.jit(encoder(space))(obs)
    assert encoded.dtype == jnp.float32
    np.testing.assert_allclose(encoded, expected, rtol=1e-6)
    assert to_gymnasium(space).contains(obs) == np.all(np.isfinite(expected))


@pytest.mark.parametrize(
    ("space", "obs", "message"),
    [
        (
            spaces.Discrete(4),
            2.0,
            "a Discrete of integers .* got float",
        ),
        (spaces.Discrete(4), np.array([1, 2]), r"got int32\[2\]"),
        (spaces.Box(0, 1, (3,)), np.ones(4), r"shape \(3,\); got float32\[4\]"),
        (spaces.Box(0, 255, (2,), jnp.uint8), np.ones(2), "a Box of bytes"),
        (spaces.Dict({"a": spaces.Discrete(2)}), {"b": 1}, r"\['a'\].*got \['b'\]"),
        (spaces.Tuple([spaces.Discrete(2)]), 1, "must have the parts"),
        (spaces.Dict({"a": spaces.Box(0, 1, (2,))}), {"a": 1.0}, r"x\['a'\] must be"),
        (gym.Text(3), "abc", "to be encoded; got Text"),
        (gym.Dict({}), {}, "must have a part"),
    ],
)
def test_what_is_not_of_its_space_is_refused(space, obs, message):
    with pytest.raises(ValueError, match=message):
        encoder(space, "x")(obs)


def test_random_actions_are_all_equally_likely_and_stay_within_bounds():
    keys = jax.random.split(jax.random.key(0), 4000)
    whole = spaces.Box(-2, 2, (), jnp.int32)
    drawn = jax.vmap(lambda key: given(whole, draw(key, whole)))(keys)
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, [-2, -1, 0, 1, 2])
    assert np.all(np.abs(counts - 800) < 5 * np.sqrt(800 * 0.8))
    sides = gym.Box(
        np.array([2, -INF, -INF, 0], np.float32), np.array([INF, 1, INF, 1], np.float32)
    )
    drawn = np.asarray(jax.vmap(lambda key: draw(key, sides))(keys))
    assert np.all(np.isfinite(drawn))
    np.testing.assert_allclose(drawn.mean(0), [3, 0, 0, 0.5], atol=0.08)
    assert drawn[:, 0].min() >= 2
    assert drawn[:, 1].max() <= 1
    box = spaces.Box(-2, 0.5, (3,))
    np.testing.assert_array_equal(draw(keys[0], box), box.sample(keys[0]))


@struct.dataclass(kw_only=True)
class MirrorState(environment.EnvState):
    action: Any


class Mirror(environment.Environment):
    """Shows the action that it was given; the reward is the sum of its numbers."""

    def __init__(self, action_space, observation_space, observe):
        self.actions, self.observations = action_space, observation_space
        self.observe_action = observe

    def reset_env(self, key, params):
        dtype = jax.dtypes.canonicalize_dtype(self.actions.dtype)
        action = given(self.actions, jnp.zeros(self.actions.shape, dtype))
        state = MirrorState(time=jnp.int32(0), action=action)
        return self.observe_action(action), state

    def step_env(self, key, state, action, params):
        state = MirrorState(time=state.time + 1, action=action)
        terminated = jnp.asarray(False)
        return self.observe_action(action), state, jnp.sum(action), terminated, {}

    def action_space(self, params=None):
        return self.actions

    def observation_space(self, params):
        return self.observations


@struct.dataclass(kw_only=True)
class MirrorParams(environment.EnvParams):
    size: jax.Array


def mirror(action_space, observation_space, observe=lambda action: action, **kwargs):
    def sample(key):
        return MirrorParams(size=jax.random.uniform(key))

    env = Mirror(action_space, observation_space, observe)
    return gymnax_family(env, sample, horizon=4, **kwargs)


class Far:
    """Draws actions of mean 8 or so, or NaN."""

    def __init__(self, mean):
        self.mean = jnp.asarray(mean)

    def init(self, key, memory, obs):
        return ()

    def initial_memory(self):
        return ()

    def apply(self, params, memory, obs):
        distribution = DiagGaussian(self.mean, jnp.zeros(self.mean.shape))
        return distribution, jnp.zeros(()), memory


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
def test_an_action_is_recorded_as_drawn_and_given_within_its_space(dtype):
    space = spaces.Box(-2, 0, (2,), dtype)
    tasks, policy = mirror(space, space), Far([8.0, -8.0])
    task = tasks.sample(jax.random.key(0))
    _, data = rollout.episode(jax.random.key(1), tasks, policy, Agent(()), task)
    np.testing.assert_array_equal(data.next_obs, [[0.0, -2.0]] * 4)
    assert data.action.dtype == data.next_obs.dtype == jnp.float32
    assert np.all(data.action[:, 0] > 2)
    assert np.all(data.action[:, 1] < -2)
    log_prob = -0.5 * np.sum((data.action - policy.mean) ** 2, -1) - np.log(2 * np.pi)
    np.testing.assert_allclose(data.log_prob, log_prob, rtol=1e-5)
    np.testing.assert_array_equal(data.reward, -2.0)
    # No number of the space stands for NaN without a word.
    lost = rollout.episode(jax.random.key(1), tasks, Far([NAN, 0.0]), Agent(()), task)
    assert np.all(np.isnan(lost[1].reward))
    assert np.all(np.isnan(lost[1].log_prob))


def test_bounds_may_depend_on_the_task():
    tasks = pendulum(max_torque=(1.0, 3.0), horizon=2)
    task = tasks.sample(jax.random.key(0))
    assert 1.0 < task.max_torque < 3.0
    action = given(tasks.env.action_space(task), jnp.array([9.0]))
    np.testing.assert_array_equal(action, [task.max_torque])
    # Of the family itself those of one task, as numbers.
    np.testing.assert_allclose(tasks.action_space.high, task.max_torque, rtol=1e-6)


PARTS = spaces.Dict({"last": spaces.Discrete(5), "size": spaces.Box(0, 5, (1,))})


def parts(action):
    return {"last": action, "size": jnp.float32(action)[None]}


@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        (cavia, {"num_tasks": 2, "num_episodes": 2}),
        (pearl, {"num_tasks": 2, "num_train_tasks": 2}),
        (rl2, {"num_tasks": 2, "num_episodes": 2, "num_minibatches": 1}),
        (varibad, {"num_tasks": 2, "num_episodes": 2, "num_minibatches": 1}),
    ],
)
def test_an_algorithm_takes_any_spaces(algorithm, kwargs):
    tasks = mirror(gym.Discrete(3, start=2), PARTS, parts)
    assert tasks.observation.shape == (6,)
    policy = (
        memory_policy(tasks, GRU(3))
        if algorithm is rl2
        else mlp_policy(tasks, hidden_sizes=(3,), value_head=True)
    )
    algorithm = algorithm(tasks, policy, **kwargs)
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key)
    after, _ = jax.eval_shape(algorithm.step, key, state)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_choices_are_counted_from_the_start_of_their_space():
    tasks = mirror(gym.Discrete(3, start=2), PARTS, parts)
    policy = PersistentRandomPolicy(tasks.action_space, persistence=0.0)
    agent = Agent((), policy.initial_memory())
    task = tasks.sample(jax.random.key(0))
    _, data = rollout.collect(
        jax.random.key(1), tasks, policy, agent, task, num_episodes=8
    )
    assert set(np.ravel(data.action)) == {0, 1, 2}
    np.testing.assert_array_equal(data.next_obs[..., -1], data.action + 2)
    np.testing.assert_array_equal(
        data.next_obs[..., :-1].argmax(-1), data.next_obs[..., -1]
    )
    shown = task_conditioned(tasks)
    np.testing.assert_array_equal(
        shown.reset(jax.random.key(0), task)[0],
        [*tasks.reset(jax.random.key(0), task)[0], task.size],
    )


class OfParts(nn.Module):
    """A policy of one's own that reads `PARTS` as they are."""

    def initial_memory(self):
        return ()

    @nn.compact
    def __call__(self, memory, obs):
        x = nn.one_hot(obs["last"], 5)
        x = nn.Dense(3)(jnp.concatenate([x, obs["size"]], axis=-1))
        return Categorical(x), jnp.sum(x, axis=-1), memory


@pytest.mark.parametrize(
    "name",
    ["maml", "emaml", "promp", "reptile", "meta_sgd", "es_maml", "pretraining"],
)
def test_a_policy_of_one_s_own_may_read_the_parts(name):
    tasks = mirror(gym.Discrete(3), PARTS, parts, encode=lambda obs: obs)
    assert set(tasks.observation) == {"last", "size"}
    with pytest.raises(ValueError, match="an observation that is one array"):
        mlp_policy(tasks)
    make = getattr(importlib.import_module(f"metarl_jax.algorithms.{name}"), name)
    algorithm = make(tasks, OfParts(), num_tasks=2, num_episodes=2)

    def step(key):
        state = algorithm.init(key)
        new, _ = algorithm.step(key, state)
        agent, task = new.agent, tasks.sample(key)
        _, data = rollout.collect(
            key, tasks, algorithm.policy, agent, task, num_episodes=2
        )
        return algorithm.adapt(key, agent, data), agent

    adapted, agent = jax.eval_shape(step, jax.random.key(0))
    assert adapted == agent


def test_a_frozen_lake_is_read_one_hot():
    env = FrozenLake()
    tasks = gymnax_family(env, lambda key: env.default_params)
    obs, _ = tasks.reset(jax.random.key(0), tasks.sample(jax.random.key(0)))
    np.testing.assert_array_equal(obs, np.eye(16)[0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: mirror(spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,))),
            r"observation of Mirror .* shape \(3,\); got float32\[2\]",
        ),
        (
            lambda: mlp_policy(
                mirror(spaces.Discrete(2), spaces.Discrete(2)), squashed=True
            ),
            "squashed actions need a Box",
        ),
        (
            lambda: mlp_policy(
                mirror(spaces.Box(1, 1, (1,)), spaces.Box(1, 1, (1,))), squashed=True
            ),
            "the low below the high",
        ),
        (
            lambda: mirror(gym.MultiBinary(2), gym.MultiBinary(2)),
            r"must be of a Discrete or a Box space; got MultiBinary\(2\)",
        ),
    ],
)
def test_spaces_that_do_not_fit_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
