"""What robots are asked to do, held to numbers and to Gymnasium's own environments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs import locomotion

KEY = jax.random.key(0)
BEFORE = jnp.asarray([1.0, 0.2, 0.1])
AFTER = jnp.asarray([1.1, 0.3, 0.1])
ACTION = jnp.asarray([0.5, -1.0])


@pytest.mark.parametrize(
    ("definition", "goal", "reward"),
    [
        # v = 0.1 / 0.05 = 2 and Σ a² = 1.25.
        (locomotion.half_cheetah_velocity(), 0.5, -1.5 - 0.0625),
        (locomotion.half_cheetah_velocity("maml"), 3.0, -1.0 - 0.0625),
        (locomotion.half_cheetah_direction(), 1.0, 2.0 - 0.0625),
        (locomotion.half_cheetah_direction("pearl"), -1.0, -2.0 - 0.0625),
        (locomotion.walker_running(), 1.0, 12.5 + 1.0 - 0.00125),
        (locomotion.hopper_running(), 1.0, 12.5 + 1.0 - 0.00125),
        (locomotion.swimmer_velocity(), 0.1, -2.4 - 0.000125),
    ],
)
def test_rewards_are_those_of_the_papers(definition, goal, reward):
    got = definition.reward(BEFORE, AFTER, ACTION, jnp.asarray(goal))
    np.testing.assert_allclose(got, reward, rtol=1e-5)


@pytest.mark.parametrize(
    ("define", "variant", "fastest", "horizon", "size"),
    [
        ("velocity", "maml", 2.0, 200, 20),
        ("velocity", "promp", 3.0, 100, 17),
        ("velocity", "pearl", 3.0, 200, 20),
        ("velocity", "varibad", 3.0, 200, 20),
        ("direction", "promp", 1.0, 100, 17),
        ("direction", "varibad", 1.0, 200, 20),
    ],
)
def test_papers_differ_in_goals_horizons_and_what_is_shown(
    define, variant, fastest, horizon, size
):
    definition = getattr(locomotion, f"half_cheetah_{define}")(variant)
    goals = jax.vmap(definition.sample_goal)(jax.random.split(KEY, 2000))
    if define == "velocity":
        assert 0 <= goals.min() < 0.01 * fastest
        assert 0.99 * fastest < goals.max() <= fastest
    else:
        assert set(np.asarray(goals)) == {-1.0, 1.0}
    assert definition.horizon == horizon
    obs = definition.observe(jnp.arange(9.0), jnp.arange(9.0, 18.0))
    np.testing.assert_array_equal(obs[:17], jnp.arange(1.0, 18.0))
    assert obs.shape == (size,)
    if size == 20:
        np.testing.assert_allclose(obs[17:], [0.0, 0.0, 1.7])


def test_an_unknown_paper_is_refused():
    with pytest.raises(ValueError, match="variant must be one of"):
        locomotion.half_cheetah_velocity("rl2")


@pytest.mark.parametrize(
    ("definition", "height", "angle", "fallen"),
    [
        (locomotion.walker_running(), 1.25, 0.0, False),
        (locomotion.walker_running(), 0.79, 0.0, True),
        (locomotion.walker_running(), 2.01, 0.0, True),
        (locomotion.walker_running(), 1.25, -1.01, True),
        (locomotion.walker_running(), np.nan, 0.0, True),
        (locomotion.hopper_running(), 1.25, 0.19, False),
        (locomotion.hopper_running(), 0.69, 0.0, True),
        (locomotion.hopper_running(), 1.25, -0.21, True),
        (locomotion.half_cheetah_velocity(), -9.0, 9.0, False),
    ],
)
def test_an_episode_is_over_where_a_robot_has_fallen(definition, height, angle, fallen):
    position = jnp.asarray([0.0, height, angle, 0.0, 0.0, 0.0])
    assert bool(definition.fallen(position, jnp.zeros(6))) == fallen


def test_a_hopper_beyond_all_bounds_has_fallen():
    definition = locomotion.hopper_running()
    position = jnp.asarray([0.0, 1.25, 0.0, 0.0, 0.0, 0.0])
    assert definition.fallen(position, jnp.full(6, 101.0))
    assert definition.fallen(position.at[4].set(jnp.nan), jnp.zeros(6))
