"""What a user's environment is refused for, and what is made right for it."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.environments.bsuite import Catch
from gymnax.environments.bsuite.deep_sea import DeepSea
from gymnax.environments.classic_control import CartPole
from gymnax.environments.misc.rooms import FourRooms
from gymnax.wrappers.purerl import GymnaxWrapper, LogWrapper

from metarl_jax import rollout
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

HOST = np.random.default_rng()
ANEW = r"Drawn draws \.x anew .* \(.x was .* and "


def constant(env, **params):
    return lambda key: env.default_params.replace(**params)


@struct.dataclass(kw_only=True)
class State(environment.EnvState):
    x: jax.Array


@struct.dataclass(kw_only=True)
class Params(environment.EnvParams):
    drift: float = 0.0


class Drawn(environment.Environment):
    """A reset draws `x` by `start(number, key)`; `move(x, action, params)` is next.

    The reward and the termination are functions of the x that was.
    """

    def __init__(self, start, move, reward=jnp.sum, end=lambda x: False):
        self.start, self.move, self.reward, self.end = start, move, reward, end

    def reset_env(self, key, params):
        state = State(time=0, x=self.start(jax.random.uniform(key), key))
        return jnp.zeros(1), state

    def step_env(self, key, state, action, params):
        x = self.move(state.x, action[0], params)
        reward, end = self.reward(state.x), self.end(state.x)
        return jnp.zeros(1), State(time=state.time + 1, x=x), reward, end, {}

    def action_space(self, params=None):
        return spaces.Box(-1, 1, (1,))

    def observation_space(self, params):
        return spaces.Box(0, 1, (1,))

    @property
    def default_params(self):
        return Params(max_steps_in_episode=10)


def number(u, key):
    return u


def kept(x, action, params):
    return x


HIDDEN = {
    "number": Drawn(number, kept),
    "end": Drawn(number, kept, lambda x: 0.0, lambda x: x > 0.5),
    "key": Drawn(lambda u, key: key, kept, jax.random.uniform),
    "next to a position": Drawn(
        lambda u, key: jnp.stack([0.0, u]), lambda x, a, params: x.at[0].add(a)
    ),
    "in a branch": Drawn(
        number, lambda x, a, _: jax.lax.cond(a > 0, lambda: x, lambda: jnp.abs(x))
    ),
    "drift of zero": Drawn(number, lambda x, a, params: x + params.drift),
}
OPEN = {
    "start": Drawn(number, lambda x, a, params: x + a),
    "start in a vector": Drawn(
        lambda u, key: jnp.stack([u, 0.0]), lambda x, a, params: x.at[0].add(a)
    ),
    "nothing follows": Drawn(number, kept, lambda x: 0.0),
    "not drawn": Drawn(lambda u, key: 0.5, kept),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_task_that_resets_draw_and_the_state_keeps_is_refused(name):
    env = HIDDEN[name]
    with pytest.raises(ValueError, match=ANEW):
        gymnax_family(env, constant(env))


@pytest.mark.parametrize("name", OPEN)
def test_a_random_start_is_no_task(name):
    gymnax_family(OPEN[name], constant(OPEN[name]))


def test_gymnax_environments_that_draw_a_task_on_demand():
    rooms, sea = FourRooms(), DeepSea(size=3)
    gymnax_family(rooms, constant(rooms))
    gymnax_family(Catch(), constant(Catch()))
    moved = constant(rooms, resample_goal_pos=True)
    with pytest.raises(ValueError, match=r"FourRooms-misc draws \.goal anew"):
        gymnax_family(rooms, constant(rooms), sample_heldout_params=moved)
    gymnax_family(rooms, moved, allow_resampling=True)
    with pytest.raises(ValueError, match=r"DeepSea-bsuite draws \.action_mapping"):
        gymnax_family(sea, constant(sea, sample_action_map=True))


def test_a_family_may_be_made_while_tracing():
    def fail_prob(value):
        env = FourRooms()
        tasks = gymnax_family(env, constant(env, fail_prob=value), horizon=2)
        return tasks.sample(jax.random.key(0)).fail_prob

    np.testing.assert_allclose(jax.vmap(fail_prob)(jnp.array([0.1, 0.2])), [0.1, 0.2])

    def horizon(env):
        return jax.jit(lambda: gymnax_family(env, constant(env), horizon=2).horizon)()

    # One that is run to tell; and a task that is kept, as a number or as a key.
    assert horizon(OPEN["start in a vector"]) == 2
    for name in ("number", "key"):
        with pytest.raises(ValueError, match=ANEW):
            horizon(HIDDEN[name])


class Scaled(GymnaxWrapper):
    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = self._env.step(key, state, action, params)
        return obs, state, 100.0 * reward, *rest


class Honest(GymnaxWrapper):
    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = self._env.step_env(key, state, action, params)
        return obs, state, 100.0 * reward, *rest


class Stepping(CartPole):
    def step(self, key, state, action, params=None):
        return super().step(key, state, action, params)


@pytest.mark.parametrize(
    ("env", "name"),
    [
        (Scaled(CartPole()), "Scaled"),
        (LogWrapper(CartPole()), "LogWrapper"),
        (Honest(Scaled(CartPole())), "Scaled"),
        (Stepping(), "Stepping"),
    ],
)
def test_a_wrapper_that_would_be_passed_by_is_refused_by_its_name(env, name):
    with pytest.raises(ValueError, match=f"{name} has a `step` of its own"):
        gymnax_family(env, constant(CartPole()))


class WithLimit(CartPole):
    """As gymnax had it before 1.0: the time limit is an end."""

    def is_terminal(self, state, params):
        over = state.time >= params.max_steps_in_episode
        return self.is_terminated(state, params) | over


class Countdown(Drawn):
    def __init__(self):
        super().__init__(number, kept)

    def reset_env(self, key, params):
        return jnp.zeros(1), State(time=0, x=jnp.float32(params.max_steps_in_episode))

    def step_env(self, key, state, action, params):
        x = state.x - 1
        return jnp.zeros(1), State(time=state.time + 1, x=x), 0.0, x <= 0, {}


def test_a_time_limit_is_no_end():
    def episode(env):
        tasks = gymnax_family(Honest(env), constant(env), horizon=12)
        policy = PersistentRandomPolicy(tasks.action_space)
        agent = Agent((), policy.initial_memory())

        def run(key):
            return rollout.episode(key, tasks, policy, agent, tasks.sample(key))[1]

        return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 20))

    ours, theirs = episode(WithLimit()), episode(CartPole())
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert theirs.truncated.any()
    assert theirs.terminated.any()
    with pytest.raises(ValueError, match="a time limit taken for an end"):
        gymnax_family(Countdown(), constant(Countdown()))


def drawn_by_the_host(draw):
    return lambda key: CartPole().default_params.replace(length=draw())


class Noisy(CartPole):
    def step_env(self, key, state, action, params):
        obs, state, reward, *rest = super().step_env(key, state, action, params)
        return obs, state, reward + HOST.normal(), *rest


@pytest.mark.parametrize(
    "family",
    [
        lambda: gymnax_family(CartPole(), drawn_by_the_host(HOST.uniform)),
        lambda: gymnax_family(CartPole(), jax.jit(drawn_by_the_host(random.random))),
        lambda: gymnax_family(
            CartPole(),
            constant(CartPole()),
            sample_heldout_params=drawn_by_the_host(
                lambda: jnp.asarray(HOST.uniform(size=2))[0]
            ),
        ),
        lambda: gymnax_family(Noisy(), constant(CartPole())),
    ],
)
def test_what_draws_without_the_key_is_refused(family):
    with pytest.raises(ValueError, match="must draw by their key alone"):
        family()
