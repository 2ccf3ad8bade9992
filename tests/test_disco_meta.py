"""Rules of the kind of Disco103 that are learned here."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.envs.catch import catch
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.update_rules.meta_training import disco_meta_training
from metarl_jax.update_rules.update_network import UpdateNetwork

KEY = jax.random.key(4)
TASKS = catch(rows=3, columns=3, permuted_buttons=False)


def build(**options: Any):
    return disco_meta_training(
        TASKS,
        network=UpdateNetwork(size=4, prediction_size=3, lifetime_size=3),
        hidden_sizes=(4,),
        model_size=3,
        head_size=3,
        num_tasks=2,
        num_episodes=2,
        rollout_length=5,
        inner_optimizer=optax.sgd(0.5),
        **options,
    )


def precise(tree):
    return jax.tree.map(
        lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def test_a_step_follows_the_slope_of_what_becomes_of_lives():
    """Through one update, forward over reverse, against differences in float64.

    Of what comes after, what the rule reads is a constant of the gradient.
    """
    with jax.enable_x64(True):
        learning = build(num_inner_steps=1, lifetime=2, outer_optimizer=optax.sgd(1.0))
        state = jax.jit(learning.init)(KEY)
        # Flax draws what is learned in float32.
        lives = jax.jit(precise)(state.lives)._replace(
            streams=state.lives.streams, task=state.lives.task, age=jnp.array([0, 1])
        )
        state = state._replace(rule=jax.jit(precise)(state.rule), lives=lives)
        new, info = jax.jit(learning.step)(KEY, state)
        assert not info.skipped
        gradient = optax.tree.sub(state.rule, new.rule)
        direction = optax.tree.random_like(KEY, state.rule)
        keys = jax.random.split(jax.random.split(KEY)[0], 2)

        @jax.jit
        def loss(h):
            rule = optax.tree.add_scale(state.rule, h, direction)
            one = jax.vmap(lambda key, life: learning.loss(rule, key, life)[0])
            return jnp.mean(one(keys, state.lives))

        h = 1e-4
        slope = (loss(h) - loss(-h)) / (2 * h)
        assert abs(slope) > 1e-5
        np.testing.assert_allclose(
            optax.tree.vdot(gradient, direction), slope, rtol=1e-3
        )
    # An update each: the second life is over, and a fresh one in its place.
    np.testing.assert_array_equal(new.lives.age, [1, 0])
    np.testing.assert_array_equal(new.lives.rule_state.hidden[1], 0.0)
    assert np.abs(new.lives.rule_state.hidden[0]).max() > 0


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="for discrete actions"):
        disco_meta_training(point_navigation(horizon=3))
    with pytest.raises(ValueError, match="whole number of at least 2; got 1"):
        disco_meta_training(TASKS, rollout_length=1)
