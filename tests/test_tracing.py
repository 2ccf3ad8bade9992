"""How many environment steps a program takes: told by its trace, counted by hand."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import metarl_jax
from metarl_jax import tracing
from metarl_jax.algorithms.maml import maml
from metarl_jax.envs.point_navigation import point_navigation
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.types import ENVIRONMENT_STEP

SMALL = {"num_tasks": 4, "num_episodes": 5, "horizon": 7, "hidden_sizes": (3,)}
ROUND = 4 * 5 * 7  # tasks × episodes × steps


@pytest.mark.parametrize(
    ("world", "method", "options", "steps"),
    [
        # K rounds to adapt on and one more for the meta-gradient.
        ("point-nav", "maml", {"num_inner_steps": 2}, 3 * ROUND),
        ("point-nav", "maml", {"differentiation": "rematerialised"}, 2 * ROUND),
        ("point-nav", "maml", {"differentiation": "mixed"}, 2 * ROUND),
        ("point-nav", "maml", {"task_group_size": 2}, 2 * ROUND),
        ("point-nav", "pretraining", {}, ROUND),
        # A trial of so many episodes of each task.
        ("bandit", "rl2", {"hidden_sizes": ()}, ROUND),
    ],
)
def test_a_meta_step_takes_so_many_steps(world, method, options, steps):
    experiment = metarl_jax.make_experiment(world, method=method, **SMALL | options)
    state = jax.eval_shape(experiment.algorithm.init, jax.random.key(0))
    traced = jax.make_jaxpr(experiment.algorithm.step)(jax.random.key(0), state)
    assert tracing.count_named(traced, ENVIRONMENT_STEP) == steps


def test_what_a_trace_tells_happens():
    tasks, taken = point_navigation(horizon=2), []
    plain = tasks.env.step_env

    def step_env(key, state, action, task):
        # With the action as its argument it is called for every member of a batch.
        jax.debug.callback(taken.append, action)
        return plain(key, state, action, task)

    tasks.env.step_env = step_env
    policy = mlp_policy(tasks, hidden_sizes=(2,))
    algorithm = maml(tasks, policy, num_tasks=2, num_episodes=3, num_inner_steps=2)
    step, key = jax.jit(algorithm.step), jax.random.key(0)
    traced = jax.make_jaxpr(step)(key, jax.eval_shape(algorithm.init, key))
    jax.block_until_ready(step(key, algorithm.init(key)))
    jax.effects_barrier()
    assert len(taken) == tracing.count_named(traced, ENVIRONMENT_STEP) == 3 * 2 * 3 * 2


def named(x):
    return checkpoint_name(jnp.sin(x), "this")


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x: checkpoint_name(x, "that"), 0),
        (lambda x: named(x) + named(x[:2])[0], 5),
        (lambda x: jax.lax.scan(lambda c, _: (named(c), None), x, None, 4)[0], 12),
        (lambda x: jax.lax.fori_loop(0, 4, lambda _, c: named(c), x), 12),
        (lambda x: jax.lax.cond(x[0] > 0, lambda y: named(named(y)), named, x), 6),
        (lambda x: jax.lax.while_loop(lambda c: c[0] > 0, named, x), None),
        (lambda x: jax.grad(lambda y: jax.checkpoint(named)(y).sum())(x), 3),
        (lambda x: jax.vmap(named)(jnp.stack([x, x])), 6),
    ],
)
def test_what_is_named_is_counted_as_often_as_it_happens(function, count):
    traced = jax.make_jaxpr(jax.jit(function))(jnp.ones(3))
    assert tracing.count_named(traced, "this") == count


def test_a_run_records_the_steps_of_one_of_its_seeds(tmp_path):
    experiment = metarl_jax.make_experiment(
        *("bandit",), num_steps=1, outer_optimizer="adam", **SMALL
    )
    metarl_jax.train(experiment, num_seeds=2, output_dir=tmp_path / "run", quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["environment_steps"] == 2 * ROUND
