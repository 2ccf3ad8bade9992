"""Strangers' environments: what is carried, what is refused, how a run of one ends."""

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import line
import numpy as np
import pytest
from gymnasium import spaces

from metarl_jax import rollout
from metarl_jax.envs.conditioned import task_conditioned
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.host import simulator_errors
from metarl_jax.errors import SimulatorError
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

KEY = jax.random.key(0)


class Stranger(gymnasium.Env):
    """Observes a sample of its space, and records the actions it is given."""

    def __init__(self, observation_space, action_space, limit=99):
        self.observation_space, self.action_space = observation_space, action_space
        self.limit, self.given = limit, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.given.append(action)
        self.time += 1
        truncated = self.time == self.limit
        return (
            self.observation_space.sample(),
            1.0,
            False,
            truncated,
            {"time": self.time},
        )


PLANE = spaces.Box(-1, 1, (2,))
FIVES = spaces.Box(0, 5, (2,), np.float64)
OBSERVATIONS = {
    "dict": (spaces.Dict({"b": PLANE, "a": spaces.Discrete(3, start=5)}), 5),
    "tuple": (spaces.Tuple([spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3])]), 9),
    "bytes": (spaces.Box(0, 255, (2, 2), np.uint8), (2, 2)),
    "box from 0 to 5": (FIVES, 2),
    "discrete from 2": (spaces.Discrete(4, start=2), 4),
}


def nothing(key):
    return jnp.zeros(())


def family(observation_space=PLANE, action_space=PLANE, limit=99, **options):
    def make():
        made.append(Stranger(observation_space, action_space, limit))
        return made[-1]

    made = []
    tasks = gymnasium_family(make, nothing, **{"horizon": 3, **options})
    return tasks, made


def episodes(tasks, number=4, scale=1.0):
    """Plays at random, beyond the bounds of the actions too."""
    policy = PersistentRandomPolicy(tasks.action_space)

    def one(key):
        agent = Agent((), policy.initial_memory())
        return rollout.episode(key, tasks, policy, agent, tasks.sample(key))[1]

    return jax.jit(jax.vmap(one))(jax.random.split(KEY, number))


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_observations_of_every_space_are_encoded(name):
    space, size = OBSERVATIONS[name]
    tasks, made = family(space)
    obs = episodes(tasks).obs
    assert obs.shape == (4, 3, *np.broadcast_to(size, np.shape(size) or (1,)))
    assert np.isfinite(obs).all()
    made[0].reset(seed=0)
    first = tasks.encode(made[0].observation_space.sample())
    assert first.shape == obs.shape[2:]
    tasks.env.close()


@pytest.mark.parametrize(
    "space", [FIVES, spaces.Discrete(3, start=4), spaces.Box(0, 5, (1,), np.int32)]
)
def test_actions_are_of_their_space(space):
    tasks, made = family(PLANE, space)
    policy = mlp_policy(tasks, hidden_sizes=())
    agent = Agent(policy.init(KEY, (), jnp.zeros(2)))

    def one(key):
        return rollout.episode(key, tasks, policy, agent, tasks.sample(key))[1]

    jax.block_until_ready(jax.jit(jax.vmap(one))(jax.random.split(KEY, 8)))
    given = np.array([action for env in made for action in env.given], float)
    assert given.min() >= 0  # and `Stranger` asserts the rest
    assert len(np.unique(given)) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_space": spaces.MultiBinary(2)}, "must be of a Discrete or a Box"),
        ({"observation_space": spaces.Text(3)}, "must be of a Box, Discrete, Multi"),
        ({"apply_task": lambda env, task: env.gone}, "be reset to a sampled task"),
        ({"info": ("speed",)}, r"tells, \['time'\]; got \['speed'\]"),
        ({"horizon": 0}, "horizon must be"),
        ({"sample_heldout_task": lambda key: jnp.zeros(2)}, "held-out params to agree"),
    ],
)
def test_what_cannot_be_carried_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        family(**options)


def test_a_reward_of_one_s_own_and_the_simulator_s_time_limit():
    def reward(task, obs, action, next_obs, info):
        return 100 * info["time"] + obs[0] - next_obs[0]

    tasks, _ = family(reward=reward, info=("time",), limit=2)
    data = episodes(tasks)
    np.testing.assert_array_equal(data.mask, [[True, True, False]] * 4)
    np.testing.assert_array_equal(data.truncated, [[False, True, False]] * 4)
    assert not data.terminated.any()
    want = 100 * np.array([1, 2]) + (data.obs - data.next_obs)[:, :2, 0]
    np.testing.assert_allclose(data.reward[:, :2], want, rtol=1e-6)


def test_an_end_of_one_s_own_gives_the_copy_back():
    def ends(task, obs):
        return obs[0] > 0

    tasks, made = family(ends=ends)
    for _ in range(2):
        data = episodes(tasks)
        positive = np.asarray(data.next_obs)[..., 0] > 0
        np.testing.assert_array_equal(data.terminated, positive & data.mask)
        alive = np.cumsum(positive, axis=1) - positive == 0
        np.testing.assert_array_equal(data.mask, alive)
    assert data.terminated.any()
    assert len(made) == 4
    assert sum(len(env.given) for env in made) == 1 + 2 * data.mask.sum()


def test_the_task_can_be_shown():
    tasks = gymnasium_family(line.Line, line.sample, line.put, horizon=2)
    plain = gymnasium_family(
        line.Line, lambda key: {"goal": line.goal(key)}, lambda *_: None, horizon=2
    )
    for one in (tasks, plain):
        shown = task_conditioned(one)
        task = one.sample(KEY)
        obs, _ = jax.jit(shown.reset)(KEY, task)
        np.testing.assert_array_equal(obs[1:], jax.tree.leaves(task)[-1])


def test_a_state_has_one_future():
    tasks = gymnasium_family(line.Line, line.sample, line.put, horizon=3)
    task = tasks.sample(KEY).replace(goal=jnp.float32(9))

    @jax.jit
    def begin():
        return tasks.reset(KEY, task)[1]

    @jax.jit
    def step(state):
        return tasks.step(KEY, state, jnp.zeros(1), task)[1]

    def fails(message, function, *args):
        with pytest.raises(SimulatorError, match=message), simulator_errors():
            jax.block_until_ready(function(*args))

    state = begin()
    jax.block_until_ready(step(state))
    fails("stepped twice from one state", step, state)
    fails("is not being played", step, state)
    # After an error all start afresh.
    both = jax.tree.map(lambda x: jnp.stack([x, x]), begin())
    fails("stepped twice", jax.vmap(step), both)
    ended = step(step(step(begin())))
    assert ended.ended
    jax.block_until_ready(step(ended))  # nothing is stepped
    fails("not being played", step, state)
    tasks.env.close()
    fails("simulators of Line are closed", begin)


def test_what_is_no_number_reaches_no_simulator():
    tasks, made = family()
    task = tasks.sample(KEY)
    _, state = jax.jit(tasks.reset)(KEY, task)
    outcome = jax.jit(tasks.step)(KEY, state, jnp.full(2, jnp.nan), task)
    assert np.isnan(outcome[2])
    assert outcome[3]
    assert len(made[0].given) == 1  # what the family itself tried


def test_several_devices_are_refused():
    tasks, _ = family()
    mesh = jax.sharding.AbstractMesh((2,), ("tasks",))
    with (
        jax.sharding.use_abstract_mesh(mesh),
        pytest.raises(ValueError, match="for one device; got a mesh of 2"),
    ):
        jax.eval_shape(lambda key: tasks.reset(key, tasks.sample(key)), KEY)


def broken():
    raise ArithmeticError("the arm fell off")


def test_a_run_outlives_its_simulator_and_its_process(tmp_path, monkeypatch):
    whole = line.run(tmp_path / "whole")
    # It raises in the middle of an episode: the run ends, saved.
    monkeypatch.setattr(line.Line, "fate", staticmethod(broken))
    monkeypatch.setattr(line.Line, "steps", 0)
    with pytest.raises(SimulatorError, match=r"failed in a step.*arm fell.*resume"):
        line.run(tmp_path / "failed")
    saved = [int(p.name) for p in (tmp_path / "failed" / "checkpoints").glob("[0-9]*")]
    assert 0 < max(saved) < 8
    # It is killed there.
    killed = tmp_path / "killed"
    process = subprocess.run(
        [sys.executable, line.__file__, str(killed)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setattr(line.Line, "fate", None)
    for path in (tmp_path / "failed", killed):
        resumed = line.run(path, resume=True)
        assert resumed.finished
        jax.tree.map(np.testing.assert_array_equal, resumed.state, whole.state)


def test_short_runs_leave_nothing_behind():
    def left():
        gc.collect()
        threads = {t.name for t in threading.enumerate()}
        return line.Line.opened, len(os.listdir("/proc/self/fd")), threads

    def short():
        tasks = gymnasium_family(line.Line, line.sample, line.put, horizon=2)
        jax.block_until_ready(jax.jit(tasks.reset)(KEY, tasks.sample(KEY)))

    short()
    left()
    gc.freeze()  # what is made from now on is looked through, and no more
    before = left()
    for _ in range(30):
        short()
    after = left()
    assert after[0] <= before[0] + 1
    assert after[1:] == before[1:]
