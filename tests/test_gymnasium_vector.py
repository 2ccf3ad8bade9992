"""Many copies behind Gymnasium's vector interface do what single ones do."""

from functools import partial

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from gymnax.environments.classic_control import Pendulum

from metarl_jax.envs import classic_control
from metarl_jax.envs.gymnasium_bridge import as_gymnasium
from metarl_jax.envs.gymnasium_vector import as_gymnasium_vector
from metarl_jax.envs.gymnax_family import gymnax_family

HORIZON, NUM = 14, 3
POLES = classic_control.cartpole(horizon=HORIZON, crossed_wires=0.5)
PENDULUM = Pendulum()
SWINGS = gymnax_family(PENDULUM, lambda key: PENDULUM.default_params, horizon=5)
BATCH = jax.vmap(POLES.sample)(jax.random.split(jax.random.key(1), NUM))


def singles(tasks, batch, seed, mode):
    def make(i):
        task = jax.tree.map(lambda leaf: leaf[i], batch)
        return as_gymnasium(tasks, task, seed=seed + i)

    return SyncVectorEnv([partial(make, i) for i in range(NUM)], autoreset_mode=mode)


def assert_same(ours, theirs):
    """Of the same structure, types and values."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_same(ours[key], theirs[key])
        return
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    if theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert_same(one, other)
        return
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_copies_do_what_gymnasium_s_own_vector_of_single_ones_does(mode):
    """Both ends, in every mode, in all that is returned."""
    ours = as_gymnasium_vector(POLES, BATCH, seed=5, autoreset_mode=mode.value)
    theirs = singles(POLES, BATCH, 5, mode)
    assert ours.action_space == theirs.action_space
    assert ours.observation_space == theirs.observation_space
    assert ours.metadata["autoreset_mode"] == mode
    rng, ended = np.random.default_rng(0), np.zeros(2, int)
    for seed in (None, 7, [3, None, 4]):
        for one, other in zip(
            ours.reset(seed=seed), theirs.reset(seed=seed), strict=True
        ):
            assert_same(one, other)
        for step in range(2 * HORIZON):
            # The first swings from side to side to its horizon; the others fall.
            actions = rng.integers(0, 2, NUM) * np.array([0, 1, 1]) + [step % 2, 0, 0]
            found = [env.step(actions) for env in (ours, theirs)]
            for one, other in zip(*found, strict=True):
                assert_same(one, other)
            assert found[0][0] in ours.observation_space
            ended += [found[0][2].sum(), found[0][3].sum()]
            over = found[0][2] | found[0][3]
            if mode == AutoresetMode.DISABLED and over.any():
                with pytest.raises(ResetNeeded, match="has ended"):
                    ours.step(actions)
                masked = [
                    env.reset(options={"reset_mask": over})[0] for env in (ours, theirs)
                ]
                assert_same(*masked)
    assert np.all(ended > 2)


def test_actions_are_clipped_and_statistics_recorded():
    task = SWINGS.sample(jax.random.key(0))
    ours, theirs = (
        as_gymnasium_vector(SWINGS, task, num_envs=NUM),
        singles(
            SWINGS,
            jax.tree.map(lambda x: np.stack([x] * NUM), task),
            0,
            AutoresetMode.NEXT_STEP,
        ),
    )
    counted = RecordEpisodeStatistics(ours)
    assert_same(counted.reset()[0], theirs.reset()[0])
    returns = np.zeros(NUM)
    for step in range(5):
        found = counted.step(np.full((NUM, 1), 99.0, np.float32))
        expected = theirs.step(np.full((NUM, 1), 2.0, np.float32))
        assert_same(found[0], expected[0])
        returns += found[1]
        assert found[3].all() == (step == 4)
    np.testing.assert_allclose(found[4]["episode"]["r"], returns, rtol=1e-5)
    assert found[4]["episode"]["l"].tolist() == [5] * NUM
    for wrong in (np.zeros((NUM, 2)), np.full((NUM, 1), np.nan), np.zeros(1)):
        with pytest.raises(ValueError, match=r"shape \(3, 1\), none of them NaN"):
            ours.step(wrong)


def test_what_is_no_batch_is_refused():
    task = jax.tree.map(lambda leaf: leaf[0], BATCH)
    env = as_gymnasium_vector(POLES, BATCH)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(NUM, int))
    env.reset()
    for wrong, message in [
        (lambda: as_gymnasium_vector(POLES, task), "without num_envs"),
        (lambda: as_gymnasium_vector(POLES, BATCH, num_envs=2), "one task"),
        (lambda: as_gymnasium_vector(POLES, task, num_envs=0), "num_envs"),
        (
            lambda: as_gymnasium_vector(POLES, BATCH, autoreset_mode="never"),
            "autoreset_mode",
        ),
        (lambda: env.reset(seed=[1]), "seeds must be 3"),
        (lambda: env.reset(options={"reset_mask": np.zeros(3, bool)}), "reset_mask"),
        (lambda: env.step(np.array([0, 1, 2])), "integer from 0 to 1 for each of 3"),
        (lambda: env.step(np.array([0, 1])), "integer from 0 to 1 for each of 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_another_library_learns_from_all_copies_at_once():
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    from metarl_jax.envs.stable_baselines import as_stable_baselines

    env = as_stable_baselines(POLES, BATCH)
    obs = env.reset()
    ends = []
    for _ in range(2 * HORIZON):
        obs, reward, done, infos = env.step(np.array([0, 1, 1]))
        assert obs.dtype == reward.dtype == np.float32
        for i in np.flatnonzero(done):
            assert not np.array_equal(infos[i]["terminal_observation"], obs[i])
            ends.append(infos[i]["TimeLimit.truncated"])
    assert ends
    learner = stable_baselines3.PPO("MlpPolicy", env, n_steps=8, batch_size=8)
    learner.learn(48)
    assert learner.num_timesteps == 48
    assert isinstance(env.get_attr("single_action_space")[0], gymnasium.spaces.Discrete)
