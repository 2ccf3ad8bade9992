"""Groups of tasks give what one vmap gives, and a reduction does not mix tasks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from metarl_jax.batching import map_tasks, mean_over_tasks, sum_over_groups


@pytest.mark.parametrize("group_size", [None, 1, 2, 6])
def test_groups_equal_a_plain_loop(group_size):
    x = jnp.arange(12.0).reshape(6, 2)
    keys = jax.random.split(jax.random.key(0), 6)

    def function(key, x):
        return {"noise": x.sum() * jax.random.normal(key), "square": x**2}

    mapped = jax.jit(map_tasks(function, group_size=group_size))(keys, x)
    loop = [function(keys[i], x[i]) for i in range(6)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *loop)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), mapped, stacked
    )

    mean = jax.jit(mean_over_tasks(function, group_size=group_size))(keys, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b.mean(0), rtol=1e-5), mean, stacked
    )


@pytest.mark.parametrize(
    ("group_size", "seen"),
    [(None, {7}), (1, {1}), (3, {3, 1}), (4, {7}), (9, {7})],
)
def test_sums_of_groups_are_the_sum(group_size, seen):
    x, sizes = jnp.arange(14.0).reshape(7, 2), []

    def function(x):
        sizes.append(len(x))
        return {"sum": x.sum(0), "squares": jnp.sum(x**2)}

    total = jax.jit(sum_over_groups(function, group_size=group_size))(x)
    np.testing.assert_allclose(total["sum"], x.sum(0))
    np.testing.assert_allclose(total["squares"], np.sum(np.square(x)))
    assert set(sizes) == seen


def test_group_size_must_divide_the_number_of_tasks():
    with pytest.raises(ValueError, match="got 4 and 6 tasks"):
        mean_over_tasks(jnp.sum, group_size=4)(jnp.ones((6, 2)))


def test_devices_must_divide_the_number_of_tasks():
    # That they compute what one does takes several devices: `test_devices.py`.
    mesh = AbstractMesh((4,), ("tasks",))
    with (
        jax.sharding.use_abstract_mesh(mesh),
        pytest.raises(ValueError, match="got 4 devices and 6 tasks"),
    ):
        mean_over_tasks(jnp.sum)(jnp.ones((6, 2)))
