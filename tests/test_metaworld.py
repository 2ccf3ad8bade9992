"""Meta-World's own environments, goals and successes, behind our interface."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import metarl_jax
from metarl_jax import rollout
from metarl_jax.envs import metaworld
from metarl_jax.envs.metaworld import Arm, MetaWorldTask, ml1, ml10, succeeded
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent

needed = pytest.mark.skipif(not metaworld.is_installed(), reason="needs Meta-World")
# Its own code warns.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.skipif(metaworld.is_installed(), reason="Meta-World is there")
@pytest.mark.parametrize("make", [ml1, ml10, metaworld.ml45])
def test_meta_world_is_named_where_it_is_missing(make):
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[metaworld\]"'):
        make()


@needed
def test_an_episode_is_meta_world_s_own():
    import metaworld as theirs

    benchmark = theirs.ML1("reach-v3", seed=0)
    arm = Arm(("reach-v3", "push-v3"), {"reach-v3": [], "push-v3": []})
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (20, 4)).astype(np.float32)
    # A scene that has been in use, another in between, the same goal again.
    for number, goal, heldout in [(0, 3, 0), (0, 3, 1), (1, 0, 0), (0, 3, 0)]:
        arm.put(MetaWorldTask(*(np.int32(x) for x in (number, goal, heldout))))
        seen, _ = arm.reset(seed=1)
        if number:
            continue
        task = (benchmark.test_tasks if heldout else benchmark.train_tasks)[goal]
        peer = benchmark.train_classes["reach-v3"]()
        peer.set_task(task)
        np.testing.assert_allclose(seen[:36], peer.reset()[0][:36], atol=1e-6)
        for action in actions:
            seen, reward, *_ = arm.step(action)
            obs, expected, *_, info = peer.step(action)
            np.testing.assert_allclose(seen[:36], obs[:36], atol=1e-5)
            np.testing.assert_allclose(reward, expected, rtol=1e-5)
            assert seen[36] == info["success"]
            assert not obs[36:].any()  # the goal is hidden
    assert len(arm.idle["push-v3"]) == 1
    arm.close()


@needed
def test_a_family_acts_on_the_host_and_tells_success():
    tasks = ml1(horizon=4)
    policy = PersistentRandomPolicy(tasks.action_space)
    collected = jax.jit(
        lambda key, task: rollout.collect(
            key, tasks, policy, Agent((), policy.initial_memory()), task, num_episodes=2
        )[1]
    )
    task = tasks.sample_heldout(jax.random.key(0))
    assert task.heldout
    assert not tasks.sample(jax.random.key(0)).heldout
    data = collected(jax.random.key(1), task)
    assert data.next_obs.shape == (2, 4, 37)
    assert data.mask.all()
    one = jax.tree.map(lambda x: x[0], data)
    assert succeeded(task, one) == 0
    hit = one._replace(next_obs=one.next_obs.at[2, -1].set(1.0))
    assert succeeded(task, hit) == 1
    late = hit._replace(mask=one.mask.at[2].set(False))
    assert succeeded(task, late) == 0
    tasks.env.close()


@needed
def test_classes_for_testing_are_not_trained_on():
    tasks = ml10(horizon=2)
    draw = jax.vmap(tasks.sample)(jax.random.split(jax.random.key(0), 300))
    held = jax.vmap(tasks.sample_heldout)(jax.random.split(jax.random.key(0), 300))
    assert set(np.asarray(draw.number)) == set(range(10))
    assert set(np.asarray(held.number)) == set(range(10, 15))
    assert set(np.asarray(draw.goal)) <= set(range(50))
    only = ml10(horizon=2, heldout_task="door-close")
    assert only.sample_heldout(jax.random.key(0)).number in range(10, 15)
    with pytest.raises(ValueError, match="heldout_task must be one of all"):
        ml10(heldout_task="reach")
    with pytest.raises(ValueError, match="at most 500"):
        ml1(horizon=501)
    with pytest.raises(ValueError, match="task_name must be one of"):
        ml1(task_name="fly")


FROM_THE_FILE = """if True:
    import json, sys
    sys.modules["jax"] = sys.modules["metarl_jax"] = None  # importing them fails
    import metaworld, numpy as np
    sys.path.insert(0, {directory!r})
    import policy
    benchmark = metaworld.ML1("reach-v3", seed=0)
    env, actor = benchmark.test_classes["reach-v3"](), policy.start(policy.load())
    env.set_task(benchmark.test_tasks[{goal}])
    actions = []
    for episode in range(2):
        obs, done, success = env.reset()[0], False, 0.0
        for t in range(10):
            seen = np.append(obs[:36], success)  # the goal is hidden
            action, actor = policy.act(actor, seen, greedy=True)
            obs, reward, _, _, info = env.step(action)
            success = info["success"]
            actor = policy.observe(
                actor, reward, np.append(obs[:36], success), truncated=t == 9
            )
            actions.append(action.tolist())
    print(json.dumps(actions))
"""


@needed
def test_meta_world_is_acted_in_from_the_file_alone(tmp_path):
    options = {"num_tasks": 2, "num_episodes": 1, "horizon": 10, "size": 4}
    options |= {"num_minibatches": 1, "num_epochs": 1}
    experiment = metarl_jax.make_experiment(
        "metaworld-ml1", method="rl2", task_name="reach", num_steps=1, **options
    )
    run = metarl_jax.train(experiment, quiet=True)
    metarl_jax.export_policy(run, tmp_path, formats=["numpy"])
    arm = Arm(("reach-v3",), {"reach-v3": []})
    arm.put(MetaWorldTask(np.int32(0), np.int32(7), np.int32(1)))
    actor, expected = metarl_jax.start(run), []
    for _ in range(2):
        obs, _ = arm.reset()
        for t in range(10):
            action, actor = metarl_jax.act(actor, obs, greedy=True)
            obs, reward, *_ = arm.step(action)
            actor = metarl_jax.observe(actor, reward, obs, truncated=t == 9)
            expected.append(action)
    arm.close()
    code = FROM_THE_FILE.format(directory=str(tmp_path), goal=7)
    command = [sys.executable, "-W", "ignore", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = np.array(json.loads(result.stdout))
    assert np.abs(np.diff(expected, axis=0)).max() > 0.01  # it does move
    np.testing.assert_allclose(found, expected, atol=1e-3)
