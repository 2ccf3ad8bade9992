"""A task behind Gymnasium's interface is the compiled task, and Gymnasium's own."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnax.environments.classic_control import CartPole, cartpole
from gymnax.environments.misc import FrozenLake
from gymnax.environments.misc.rooms import FourRooms
from gymnax.wrappers.purerl import FlattenObservationWrapper

from metarl_jax.envs import classic_control, gymnasium_bridge, point_navigation
from metarl_jax.envs.gymnasium_bridge import as_gymnasium
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.envs.tabular_mdp import tabular_mdp

HORIZON = 25
TASKS = classic_control.cartpole(horizon=HORIZON, crossed_wires=0.5)
ROOMS = FourRooms()
BATCH = jax.vmap(TASKS.sample)(jax.random.split(jax.random.key(1), 6))


def task_number(i):
    return jax.tree.map(lambda x: x[i], BATCH)


def play(env, choose):
    """One episode: observations, actions, rewards and how each step ended."""
    obs, _ = env.reset()
    observations, steps, over = [obs], [], False
    while not over:
        action = choose(obs)
        obs, reward, terminated, truncated, info = env.step(action)
        observations.append(obs)
        steps.append((action, reward, terminated, truncated))
        assert info == {}
        over = terminated or truncated
    actions, *outcomes = (np.array(x) for x in zip(*steps, strict=True))
    return np.array(observations), actions, *outcomes


@jax.jit
def compiled_steps(obs, actions, task):
    """The environment's own steps, each from the state that an observation shows."""

    def step(obs, action):
        x, x_dot, theta, theta_dot = obs
        state = cartpole.EnvState(
            x=x, x_dot=x_dot, theta=theta, theta_dot=theta_dot, time=jnp.int32(0)
        )
        obs, _, reward, terminated, _ = TASKS.env.step_env(
            jax.random.key(0), state, action, task
        )
        return obs, reward, terminated

    return jax.vmap(step)(obs, actions)


def balancing(sign):
    return lambda obs: np.int64(sign * (obs[2] + 0.5 * obs[3]) > 0)


@pytest.mark.parametrize("ends_by_itself", [False, True])
def test_an_episode_is_the_compiled_one(ends_by_itself):
    signs = np.sign(BATCH.force_mag)
    assert set(signs) == {-1.0, 1.0}
    for i, sign in enumerate(signs):
        task = task_number(i)
        env = as_gymnasium(TASKS, task, seed=i)
        choose = balancing(-sign if ends_by_itself else sign)
        obs, actions, rewards, terminated, truncated = play(env, choose)
        length = len(actions)
        assert (length < HORIZON) if ends_by_itself else (length == HORIZON)
        # Time limit and end exclude one another, and only the last step has either.
        np.testing.assert_array_equal(terminated[:-1] | truncated[:-1], False)
        assert (terminated[-1], truncated[-1]) == (ends_by_itself, not ends_by_itself)

        rest = (0, HORIZON - length)
        expected = compiled_steps(
            np.pad(obs[:-1], (rest, (0, 0))), np.pad(actions, rest), task
        )
        for ours, theirs in zip((obs[1:], rewards, terminated), expected, strict=True):
            np.testing.assert_allclose(ours, theirs[:length], rtol=1e-6, atol=1e-7)

        # Gymnasium's own CartPole, in NumPy and double precision.
        peer = CartPoleEnv()
        for name in (
            *("gravity", "masscart", "masspole", "total_mass", "length"),
            *("polemass_length", "force_mag", "tau"),
        ):
            setattr(peer, name, float(getattr(task, name)))
        peer.reset()
        peer.state = obs[0].astype(float)
        for t in range(length):
            seen, reward, ended, *_ = peer.step(actions[t])
            np.testing.assert_allclose(seen, obs[t + 1], rtol=1e-4, atol=1e-5)
            assert (reward, ended) == (rewards[t], terminated[t])


@pytest.mark.parametrize(
    "tasks",
    [
        TASKS,
        tabular_mdp(horizon=4),
        point_navigation.point_navigation(horizon=4),
        gymnax_family(FrozenLake(), lambda key: FrozenLake().default_params),
        # It shows integers where it declares floats.
        gymnax_family(ROOMS, lambda key: ROOMS.default_params),
    ],
    ids=lambda tasks: tasks.env.name,
)
def test_gymnasium_s_own_checks(tasks):
    # A user's seed repeats an episode; without one each is new.
    env = as_gymnasium(tasks, tasks.sample(jax.random.key(0)), seed=3)
    check_env(env, skip_render_check=True)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(tasks.horizon)]

    def episode(**seed):
        env.reset(**seed)
        steps = [env.step(action)[:2] for action in actions[:4]]
        return [np.append(obs, reward) for obs, reward in steps]

    first, again, new = episode(seed=5), episode(seed=5), episode()
    np.testing.assert_array_equal(first, again)
    # The others have nothing random, or not in what four steps show.
    if tasks.env.name in ("CartPole-v1", "TabularMDP"):
        assert not np.array_equal(first, new)


def test_what_it_rejects():
    with pytest.raises(ValueError, match=r"one task .* \(6,\)"):
        as_gymnasium(TASKS, BATCH)
    with pytest.raises(ValueError, match="one task"):
        as_gymnasium(TASKS, None)
    env = as_gymnasium(TASKS, task_number(0))
    with pytest.raises(ResetNeeded, match="not begun"):
        env.step(0)
    play(env, lambda obs: 0)
    with pytest.raises(ResetNeeded, match="has ended"):
        env.step(0)


def begun(tasks):
    env = as_gymnasium(tasks, tasks.sample(jax.random.key(0)))
    env.reset()
    return env


@pytest.mark.parametrize("action", [99, -1, 1.0, np.nan, [1], None, "left"])
def test_an_action_that_is_no_choice_is_refused(action):
    with pytest.raises(ValueError, match="an integer from 0 to 1; got"):
        begun(TASKS).step(action)


@pytest.mark.parametrize("action", [[np.nan, 0], [0.1], 0.1, [[0.1, 0.1]], None, "x"])
def test_an_action_of_another_shape_or_that_is_no_number_is_refused(action):
    with pytest.raises(ValueError, match=r"numbers of shape \(2,\), none of them NaN"):
        begun(point_navigation.point_navigation(horizon=4)).step(action)


def test_an_action_out_of_bounds_is_clipped():
    tasks = classic_control.pendulum(max_torque=(0.5, 0.5), horizon=4)
    seen = [begun(tasks).step([torque])[:2] for torque in (0.5, 7, 1e300)]
    for obs, reward in seen[1:]:
        np.testing.assert_array_equal([*obs, reward], [*seen[0][0], seen[0][1]])


def test_choices_are_numbered_as_the_space_says():
    class FromOne(CartPole):
        def action_space(self, params=None):
            return gymnasium.spaces.Discrete(2, start=1)

        def step_env(self, key, state, action, params):
            return super().step_env(key, state, action - 1, params)

    env, plain = (
        begun(gymnax_family(env, lambda key: CartPole().default_params, horizon=4))
        for env in (FromOne(), CartPole())
    )
    np.testing.assert_array_equal(env.step(2)[0], plain.step(1)[0])
    with pytest.raises(ValueError, match="an integer from 1 to 2; got 0"):
        env.step(0)


def test_a_forked_process_is_told_to_be_spawned(monkeypatch):
    env = begun(TASKS)
    monkeypatch.setattr(gymnasium_bridge, "_first_process", lambda: -1)
    for use in (env.reset, lambda: as_gymnasium(TASKS, task_number(0))):
        with pytest.raises(RuntimeError, match='context="spawn"'):
            use()


def test_a_space_that_observations_are_not_of_is_refused():
    flat = FlattenObservationWrapper(FourRooms(use_visual_obs=True))
    family = gymnax_family(flat._env, lambda key: flat._env.default_params)
    with pytest.raises(ValueError, match=r"shape \(338,\); got float32\[13, 13, 2\]"):
        begun(family._replace(env=flat))
