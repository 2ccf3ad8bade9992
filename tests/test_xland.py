"""Rule sets as tasks: beside the simulator itself, and solved by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.xland import encode, is_installed, read_benchmark, xland
from metarl_jax.envs.xland_rules import HELD, SIDE_BY_SIDE, TOGETHER, make_rule_sets

KEY = jax.random.key(0)
needs_simulator = pytest.mark.skipif(not is_installed(), reason="needs xminigrid")


def solvable(goal, rules, objects):
    """Whether what the goal is about can be had, by making all that can be made."""

    def tile(numbers):
        return tuple(int(n) for n in numbers)

    had = {tile(x) for x in objects if x[0]}
    chain = [rule for rule in rules if rule[0]]
    # As often as there are rules, each of which may wait for another.
    for _ in chain:
        for rule in chain:
            num = 2 if rule[0] == TOGETHER else 1
            sources = [tile(rule[1 + 2 * i : 3 + 2 * i]) for i in range(num)]
            product = tile(rule[1 + 2 * num : 3 + 2 * num])
            if all(source in had for source in sources):
                had.add(product)
    num = 2 if goal[0] == SIDE_BY_SIDE else 1
    return all(tile(goal[1 + 2 * i : 3 + 2 * i]) in had for i in range(num))


@pytest.mark.parametrize("num_rules", [0, 1, 3])
def test_rule_sets_differ_and_need_every_one_of_their_rules(num_rules):
    made = make_rule_sets(num_rule_sets=300, num_rules=num_rules, num_distractors=2)
    rows = list(zip(*made, strict=True))
    assert len({b"".join(part.tobytes() for part in row) for row in rows}) == 300
    for goal, rules, objects in rows:
        assert solvable(goal, rules, objects)
        for i in range(num_rules):
            fewer = rules.copy()
            fewer[i] = 0
            assert not solvable(goal, fewer, objects)
        there = [tuple(x) for x in objects if x[0]]
        assert len(there) == len(set(there))
    again = make_rule_sets(num_rule_sets=300, num_rules=num_rules, num_distractors=2)
    np.testing.assert_array_equal(made.rules, again.rules)
    assert {HELD, TOGETHER} <= set(made.rules[:, :, 0].ravel()) or not num_rules


@pytest.mark.parametrize(
    ("wrong", "name"),
    [({"num_rules": 40}, "num_rules"), ({"num_rule_sets": 0}, "num_rule_sets")],
)
def test_rule_sets_that_cannot_be_made_are_refused(wrong, name):
    with pytest.raises(ValueError, match=name):
        make_rule_sets(**{"num_rule_sets": 2, **wrong})


def test_what_is_seen_becomes_channels():
    seen = encode(jnp.asarray([[[3, 5], [0, 0]]], jnp.uint8))
    assert seen.shape == (1, 2, 25)
    assert list(np.flatnonzero(seen[0, 0])) == [3, 13 + 5]


@pytest.mark.skipif(is_installed(), reason="xminigrid is there")
def test_without_the_simulator_it_says_how_to_install_it():
    with pytest.raises(ValueError, match=r'pip install "metarl-jax\[games\]"'):
        xland()


@needs_simulator
@pytest.mark.parametrize("layout", ["R1-9x9", "R4-13x13"])
def test_a_walk_is_the_simulator_s_own(layout):
    import xminigrid
    from xminigrid.types import RuleSet

    made = {"num_rule_sets": 50, "num_rules": 1, "horizon": 30}
    tasks = xland(layout=layout, observation="image", **made)
    assert xland(layout=layout, **made).observation.shape == (625,)
    task = tasks.sample(KEY)
    simulator, params = xminigrid.make(f"XLand-MiniGrid-{layout}", max_steps=30)
    rule_set = RuleSet(goal=task.goal, rules=task.rules, init_tiles=task.objects)
    params = params.replace(ruleset=rule_set)

    def walk(actions):
        def ours(state, action):
            obs, state, reward, over = tasks.step(KEY, state, action, task)
            return state, (obs, reward, over)

        def theirs(timestep, action):
            timestep = simulator.step(params, timestep, action)
            over = timestep.discount == 0
            return timestep, (encode(timestep.observation), timestep.reward, over)

        obs, state = tasks.reset(KEY, task)
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)
        first = simulator.reset(params, KEY)
        both = jax.lax.scan(ours, state, actions), jax.lax.scan(theirs, first, actions)
        return (obs, both[0][1]), (encode(first.observation), both[1][1])

    actions = np.random.default_rng(0).integers(6, size=29)
    ours, theirs = jax.jit(walk)(actions)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@needs_simulator
def test_a_goal_that_is_met_ends_the_episode_and_pays():
    from xminigrid.types import AgentState

    tasks = xland(horizon=20, num_rule_sets=50)
    task = tasks.sample(KEY).replace(goal=jnp.asarray([1, 7, 2, 0, 0], jnp.uint8))
    _, state = tasks.reset(KEY, task)
    # A red key before the agent, who looks upwards, is picked up.
    grid = state.grid.at[1:8, 1:8].set(jnp.asarray([1, 7], jnp.uint8))
    grid = grid.at[3, 4].set(jnp.asarray([7, 2], jnp.uint8))
    agent = AgentState(position=jnp.asarray([4, 4]), direction=jnp.asarray(0))
    agent = jax.tree.map(lambda x, y: x.astype(y.dtype), agent, state.agent)
    state = state.replace(grid=grid, agent=agent)
    _, _, reward, over = tasks.step(KEY, state, 3, task)
    assert over
    np.testing.assert_allclose(reward, 1 - 0.9 / 20, rtol=1e-6)
    _, _, reward, over = tasks.step(KEY, state, 1, task)
    assert not over
    assert reward == 0


@needs_simulator
def test_no_held_out_rule_set_is_met_in_training():
    tasks = xland(horizon=2, num_rule_sets=30)
    keys = jax.random.split(KEY, 400)
    met = []
    for sample in (tasks.sample, tasks.sample_heldout):
        leaves = jax.tree.leaves(jax.vmap(sample)(keys).replace(max_steps_in_episode=0))
        rows = [np.reshape(leaf, (400, -1)) for leaf in leaves if np.ndim(leaf)]
        met.append({row.tobytes() for row in np.concatenate(rows, axis=1)})
    assert (len(met[0]), len(met[1])) == (27, 3)
    assert not met[0] & met[1]


@needs_simulator
def test_a_benchmark_is_read_where_it_is_and_never_fetched(tmp_path, monkeypatch):
    import bz2
    import pickle

    from xminigrid import benchmarks

    monkeypatch.setattr(benchmarks, "DATA_PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"trivial_21k.*not there"):
        xland(benchmark="trivial-21k")
    with pytest.raises(ValueError, match="benchmark must be one of"):
        xland(benchmark="nothing")
    made = make_rule_sets(num_rule_sets=20)
    content = {"goals": made.goals, "rules": made.rules, "init_tiles": made.objects}
    content["num_rules"] = np.zeros(20)
    with bz2.open(tmp_path / "trivial_21k", "wb") as file:
        pickle.dump(content, file)
    read = read_benchmark("trivial-21k")
    np.testing.assert_array_equal(read.goals, made.goals)
    assert xland(benchmark="trivial-21k", horizon=2).sample(KEY).rules.shape == (1, 7)
