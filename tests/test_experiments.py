"""What the experiments promise beyond what their algorithms do."""

from functools import partial

import jax
import pytest

from metarl_jax.experiments import point_nav as module
from metarl_jax.experiments.point_nav import METHODS, point_nav

# Compiling is what this costs.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.mark.parametrize(
    "method", ["maml", "promp", "reptile", "es-maml", "pretraining"]
)
def test_every_method_acts_as_often_as_its_budget_says(method, monkeypatch):
    """Each structure of a step once; counts the steps as they happen."""
    steps = []
    build = module.point_navigation

    def counted(**kwargs):
        tasks = build(**kwargs)
        step = tasks.env.step_env

        def step_env(key, state, action, task):
            # With the action as its argument it is called for every member of a batch.
            jax.debug.callback(steps.append, action)
            return step(key, state, action, task)

        tasks.env.step_env = step_env
        return tasks

    monkeypatch.setattr(module, "point_navigation", counted)
    num_tasks, num_episodes, horizon = 2, 5, 2
    experiment = point_nav(
        method=method,
        num_tasks=num_tasks,
        num_episodes=num_episodes,
        horizon=horizon,
        hidden_sizes=(2,),
        num_steps=30,
    )
    algorithm = experiment.algorithm
    state = jit(algorithm.init)(jax.random.key(0))
    _, info = jit(algorithm.step)(jax.random.key(1), state)
    jax.block_until_ready(info)
    jax.effects_barrier()
    rounds = METHODS[method].rounds
    assert len(steps) == rounds * num_tasks * num_episodes * horizon
    assert experiment.num_steps * rounds == 60


def test_episodes_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 5 for es-maml.*; got 4"):
        point_nav(method="es-maml", num_episodes=4)
