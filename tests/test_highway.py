"""highway-env's own road and rewards, behind our interface."""

import gymnasium
import jax
import numpy as np
import pytest

from metarl_jax import rollout
from metarl_jax.envs import highway as ours
from metarl_jax.envs.highway import HighwayTask, configuration, highway
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

needed = pytest.mark.skipif(not ours.is_installed(), reason="needs highway-env")
# Its own code warns.
pytestmark = pytest.mark.filterwarnings("ignore")
KEY = jax.random.key(0)


def test_what_is_wrong_is_refused():
    with pytest.raises(ValueError, match="horizon must be at most 30"):
        highway(horizon=31)
    with pytest.raises(ValueError, match="density"):
        highway(density=(2.0, 1.0))
    with pytest.raises(ValueError, match="right_lane"):
        highway(right_lane=(0.3, 0.2))
    if not ours.is_installed():
        with pytest.raises(ValueError, match=r'pip install "metarl-jax\[driving\]"'):
            highway()


@needed
def test_an_episode_is_highway_env_s_own():
    """Roads of all kinds, one after the other in the same copies."""
    tasks = highway(horizon=12)
    policy = PersistentRandomPolicy(tasks.action_space)
    batch = HighwayTask(
        lanes=np.array([2, 4, 3], np.int32),
        density=np.array([0.5, 1.5, 1.0], np.float32),
        drivers=np.arange(3, dtype=np.int32),
        right_lane=np.array([0.0, 0.4, 0.2], np.float32),
    )
    agent = Agent((), policy.initial_memory())

    @jax.jit
    def collect(key, task):
        return jax.vmap(
            lambda key, task: rollout.collect(
                key, tasks, policy, agent, task, num_episodes=1
            )[1]
        )(jax.random.split(key, 3), task)

    seeds = []
    copies = tasks.env.simulators
    reset = copies.reset
    copies.reset = lambda numbers, given, task: (
        seeds.append(given) or reset(numbers, given, task)
    )
    data = jax.device_get(collect(KEY, batch))
    for i in range(3):
        task = jax.tree.map(lambda x, i=i: x[i], batch)
        peer = gymnasium.make("highway-fast-v0", config=configuration(task))
        assert peer.unwrapped.config["lanes_count"] == [2, 4, 3][i]
        seen, _ = peer.reset(seed=int(seeds[0][i]))
        one = jax.tree.map(lambda x, i=i: x[i, 0], data)
        steps = int(one.mask.sum())
        for t in range(steps):
            np.testing.assert_allclose(one.obs[t], seen, atol=1e-6)
            seen, reward, over, *_ = peer.step(int(one.action[t]))
            np.testing.assert_allclose(one.reward[t], reward, rtol=1e-5)
            assert one.terminated[t] == over
        assert steps == 12 or over
        measures = {name: float(f(task, one)) for name, f in tasks.measures.items()}
        assert measures["collisions"] == float(over)
        speeds = ours.SPEED_UNIT * one.next_obs[:steps, 0, 3]
        assert measures["speed (m/s)"] == pytest.approx(speeds.mean(), rel=1e-5)
        assert peer.unwrapped.vehicle.velocity[0] == pytest.approx(speeds[-1], abs=0.1)
    tasks.env.close()
