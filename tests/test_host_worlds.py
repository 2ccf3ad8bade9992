"""Simulators on the host: the numbers of a compiled world, and no step too many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from line import HORIZON, Line, Params, goal, put, sample

from metarl_jax import rollout
from metarl_jax.algorithms.maml import maml
from metarl_jax.algorithms.rl2 import rl2
from metarl_jax.envs.gymnasium_family import gymnasium_family
from metarl_jax.envs.gymnax_family import gymnax_family
from metarl_jax.evaluation import evaluate
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.trust_region import TrustRegion


@struct.dataclass(kw_only=True)
class State(environment.EnvState):
    x: jax.Array


class CompiledLine(environment.Environment):
    def reset_env(self, key, params):
        seed = jax.random.bits(key, (), jnp.uint32) >> 1
        x = jnp.full(1, seed % 256, jnp.float32) / 256
        return x, State(time=0, x=x)

    def step_env(self, key, state, action, params):
        x = state.x + 0.125 * action
        distance = x[0] - params.goal
        state = State(time=state.time + 1, x=x)
        return x, state, -distance * distance, jnp.abs(distance) < 0.125, {}

    def action_space(self, params=None):
        return spaces.Box(-1, 1, (1,))

    def observation_space(self, params=None):
        return spaces.Box(-jnp.inf, jnp.inf, (1,))


def far(key):
    return Params(max_steps_in_episode=HORIZON, goal=2 + goal(key))


def both_families(sample):
    compiled = gymnax_family(CompiledLine(), sample, horizon=HORIZON)
    return compiled, gymnasium_family(Line, sample, put, horizon=HORIZON)


@pytest.fixture(scope="module")
def families():
    return both_families(sample)


def run_both(families, run):
    """Runs the same program on the compiled world and on the host; returns both."""
    compiled, host = (
        jax.block_until_ready(jax.jit(lambda key, t=tasks: run(key, t))(KEY))
        for tasks in families
    )
    return compiled, host


KEY = jax.random.key(3)


def assert_equal(compiled, host):
    jax.tree.map(np.testing.assert_array_equal, compiled, host)


def collect(key, tasks):
    policy = mlp_policy(tasks, hidden_sizes=(4,))
    keys = jax.random.split(key, 3)
    task_batch = jax.vmap(tasks.sample)(keys)
    obs = jnp.zeros(1)
    agents = jax.vmap(lambda key: rollout.Agent(policy.init(key, (), obs)))(keys)
    return rollout.collect_tasks(key, tasks, policy, agents, task_batch, num_episodes=4)


def test_episodes_are_those_of_a_compiled_world(families):
    Line.steps = Line.resets = 0
    compiled, host = run_both(families, collect)
    assert_equal(compiled, host)
    assert host.terminated.any()
    assert host.truncated.any()
    # Every step that was recorded was taken, and no other.
    assert Line.steps == host.mask.sum()
    assert Line.resets == 12


def test_a_meta_step_is_that_of_a_compiled_world():
    def two_steps(key, tasks):
        policy = mlp_policy(tasks, hidden_sizes=(4,))
        algorithm = maml(
            tasks,
            policy,
            num_tasks=4,
            num_episodes=2,
            num_inner_steps=1,
            # Many iterations of a conjugate gradient make much of a rounding error.
            outer_optimizer=TrustRegion(num_cg_iterations=2, damping=1.0),
            task_group_size=2,
        )

        def both(key):
            def step(state, key):
                return algorithm.step(key, state)

            return jax.lax.scan(step, algorithm.init(key), jax.random.split(key, 2))

        return jax.vmap(both)(jax.random.split(key, 2))  # seeds

    families = both_families(far)
    Line.steps = Line.resets = 0
    compiled, host = run_both(families, two_steps)
    # The gradients of two programs differ by rounding, and the actions after them.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, 1e-5, 1e-6), compiled, host
    )
    assert np.all(host[1].gradient_norm > 0)
    num_episodes = 2 * 2 * 2 * 4 * 2  # seeds, steps, rounds, tasks, episodes
    assert Line.steps == num_episodes * HORIZON
    assert Line.resets == num_episodes  # none to draw parameters by


def test_trials_and_evaluation_are_those_of_a_compiled_world(families):
    def trial(key, tasks):
        policy = memory_policy(tasks, GRU(3))
        algorithm = rl2(tasks, policy, num_tasks=2, num_episodes=2)
        state, info = algorithm.step(key, algorithm.init(key))
        curve = evaluate(
            key,
            tasks,
            policy,
            algorithm.adapt,
            state.agent,
            num_tasks=3,
            num_episodes=1,
            num_adaptation_steps=2,
            task_group_size=2,
        )
        return state, info, curve

    assert_equal(*run_both(families, trial))
