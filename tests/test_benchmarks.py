"""What the benchmarks measure with: counts, comparisons, and where the time goes."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import measuring
import numpy as np
import optax
import profiling
import pytest
import step_time
import telling_apart
from scipy import stats

from metarl_jax import tracing
from metarl_jax.types import ENVIRONMENT_STEP

HERE = Path(__file__).parent


def test_products_in_loops_count_as_often_as_they_run():
    x, y = jnp.ones((3, 4)), jnp.ones((4, 5))

    def function(x, y):
        def body(total, _):
            return total + x @ y, None

        total, _ = jax.lax.scan(body, x @ y, None, length=7)
        return jax.lax.while_loop(
            lambda z: jnp.sum(z) < 0, lambda z: z @ y.T @ y, total
        )

    product = 2 * 3 * 4 * 5
    counted = measuring.matmul_flops(function, x, y, while_trips=2.0)
    assert counted == (1 + 7) * product + 2 * 2 * product


def test_a_comparison_prints_new_over_old(tmp_path, capsys):
    old = {"hardware": {"cores": 64}, "steps": 3, "a": {"seconds": 2.0, "rate": None}}
    (tmp_path / "old.json").write_text(json.dumps({**old, "gone": 1.0}))
    args = argparse.Namespace(
        quick=False, output=tmp_path / "new.json", compare=tmp_path / "old.json"
    )
    record = {"steps": 3, "a": {"seconds": 0.5, "rate": 1.0}, "more": 1.0}
    measuring.finish(args, record)
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("cores: 64 then")]
    assert printed[-1].split() == ["a/seconds", "2", "0.5", "0.25×"]
    written = json.loads(args.output.read_text())
    assert {"date", "device", "jax", "python"} <= set(written.pop("hardware"))
    assert written == {"quick": False, **record}


def test_measurements_of_something_else_are_not_compared():
    with pytest.raises(ValueError, match="steps must be the same; got 3 and 4"):
        measuring.ratios({"a": {"steps": 3, "s": 1.0}}, {"a": {"steps": 4, "s": 1.0}})


def expensive(x):
    """Makes products of matrices for most of the time."""
    return jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=20)[0]


def cheap(x):
    """Sorts a row, which is not fused with what follows."""
    return jnp.sort(x[0])


def test_the_time_is_that_of_the_expensive_function_and_primitive():
    def function(x):
        return expensive(x) + cheap(x)

    x = jnp.full((300, 300), 1 / 300)  # its own square
    program = profiling.compile_with_names(function, x)
    spots = profiling.hotspots(program, lambda: program(x), repeats=3, package=HERE)
    by_function = profiling.shares(spots, "function")
    assert next(iter(by_function)).startswith("test_benchmarks.py expensive")
    assert "test_benchmarks.py cheap" in by_function
    assert next(iter(profiling.shares(spots, "primitive"))) == "dot_general"
    line = expensive.__code__.co_firstlineno + 2
    assert next(iter(profiling.shares(spots, "line"))) == f"test_benchmarks.py:{line}"
    assert sum(by_function.values()) == pytest.approx(1.0)


# As XLA prints it: a parent frame is one more than its number, and 1 is none.
PROGRAM = """HloModule jit_step, is_scheduled=true

FileNames
1 "/ours/loop.py"
2 "/theirs/lax.py"

FunctionNames
1 "outer.<locals>.step"
2 "scan"
3 "outer"

FileLocations
1 {file_name_id=1 function_name_id=1 line=7 end_line=7 column=1 end_column=2}
2 {file_name_id=2 function_name_id=2 line=90 end_line=90 column=1 end_column=2}
3 {file_name_id=1 function_name_id=3 line=9 end_line=9 column=1 end_column=2}

StackFrames
1 {file_location_id=3 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=2}
3 {file_location_id=2 parent_frame_id=3}
4 {file_location_id=2 parent_frame_id=1}


%f.1 (a: f32[2]) -> f32[2] {
  ROOT %dot.2 = f32[2]{0} dot(%a, %a), metadata={op_name="jit(f)/transpose" stack_frame_id=2}
}

%body.1 (p: (s32[], f32[2])) -> (s32[], f32[2]) {
  %p = (s32[], f32[2]{0}) parameter(0)
  %copy.1 = f32[2]{0} copy(%p)
  %merged.1 = f32[2]{0} fusion(%p), kind=kCustom, calls=%f.1, metadata={op_name="jit(f)/transpose" stack_frame_id=2}
  ROOT %sine.1 = f32[2]{0} fusion(%copy.1), calls=%f, metadata={op_name="jit(f)/while/body/sin" stack_frame_id=3}
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  %while.1 = (s32[], /*index=1*/f32[2]{0}) while(%x), condition=%c, body=%body.1, metadata={op_name="jit(f)/while" stack_frame_id=1}
  ROOT %exp.1 = f32[2]{0} exponential(%x), metadata={op_name="jit(f)/exp" stack_frame_id=4}
}
"""  # noqa: E501


def test_operations_are_named_by_the_innermost_line_of_the_package():
    origins = profiling.operation_origins(PROGRAM, Path("/ours"))
    assert origins["sine.1"] == ("fusion", "sin", "loop.py outer.step", "loop.py:7")
    # What the compiler added to a loop is the loop's; foreign stacks name themselves.
    assert origins["copy.1"] == ("copy", "copy", "loop.py outer", "loop.py:9")
    # A product stays one, whatever it was merged with.
    assert origins["merged.1"][:2] == ("fusion", "dot_general")
    assert origins["while.1"].opcode in profiling.CONTAINERS
    assert origins["exp.1"] == ("exponential", "exp", "lax.py scan", "lax.py:90")


def event(name, start, duration, **stats):
    return SimpleNamespace(
        name=name, start_ns=start, duration_ns=duration, stats=stats.items()
    )


def test_an_operation_lasts_until_all_its_threads_have_done_it():
    dot = event("dot.1", 100, 5, hlo_op="dot.1", _p=8)
    add = event("add.1", 300, 20, hlo_op="add.1", _p=9)
    ends = [event("end: dot.1", 250, 1, _c=8), event("end: add.1", 319, 1, _c=9)]
    lines = [SimpleNamespace(events=x) for x in ([dot, add, ends[1]], [ends[0]])]
    host = SimpleNamespace(name="/host:CPU", lines=lines)
    seconds = profiling.operation_seconds(SimpleNamespace(planes=[host]))
    assert seconds == pytest.approx({"dot.1": 150e-9, "add.1": 20e-9})
    # The host of an accelerator only launches what runs on it.
    kernel = event("gemm", 400, 30, hlo_op="dot.1")
    device = SimpleNamespace(
        name="/device:GPU:0", lines=[SimpleNamespace(events=[kernel])]
    )
    seconds = profiling.operation_seconds(SimpleNamespace(planes=[host, device]))
    assert seconds == pytest.approx({"dot.1": 30e-9})


def test_the_maml_written_for_pytorch_is_ours():
    torch = pytest.importorskip("torch")
    import torch_maml

    from metarl_jax import inner_loop, policy_gradient, surrogates
    from metarl_jax.policies.mlp import MLPPolicy
    from metarl_jax.types import Agent

    peer = torch_maml.MAML(num_tasks=2, num_episodes=3, horizon=6, width=4)
    theirs = {k: v.detach() for k, v in peer.policy.named_parameters()}
    shared = {k: v.expand(2, *v.shape) for k, v in theirs.items()}
    goals = np.array([[0.3, -0.2], [-0.4, 0.1]], np.float32)
    before, _ = peer.collect(shared, goals)
    after, _ = peer.collect(torch.func.vmap(peer.adapt)(shared, before), goals)
    expected = peer.meta_gradient(theirs, before, after)

    def ours(weights):
        layers = {"hidden_0": "mean.0", "hidden_1": "mean.2", "mean": "mean.4"}
        return {
            "params": {
                name: {
                    "kernel": weights[f"{layer}.weight"].numpy().T,
                    "bias": weights[f"{layer}.bias"].numpy(),
                }
                for name, layer in layers.items()
            }
            | {"log_std": weights["log_std"].numpy()}
        }

    def batch(data):
        arrays = [jnp.asarray(x.numpy()) for x in data]
        obs, action, log_prob, advantage = arrays
        log_prob = log_prob - jnp.log(2 * jnp.pi)  # two dimensions' constant
        mask = jnp.ones(advantage.shape, bool)
        return policy_gradient.Batch(obs, action, log_prob, mask, advantage, mask)

    policy = MLPPolicy(action_dim=2, hidden_sizes=(4, 4))

    def mean(surrogate, params, data):
        return policy_gradient.surrogate_mean(policy, surrogate, params, data)

    sgd = optax.sgd(peer.inner_lr)
    adapt = inner_loop.gradient_step(
        lambda params, data: -mean(surrogates.score_function, params, data),
        sgd,
    )

    def loss(params, before, after):
        def one_task(before, after):
            adapted = adapt(Agent(params, (), sgd.init(params)), before).params
            return -mean(surrogates.likelihood_ratio, adapted, after)

        return jnp.mean(jax.vmap(one_task)(before, after))

    gradient = jax.jit(jax.grad(loss))(ours(theirs), batch(before), batch(after))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        gradient,
        ours(expected),
    )


def test_the_advantages_written_in_numpy_are_ours():
    pytest.importorskip("torch")
    import torch_maml

    from metarl_jax import policy_gradient
    from metarl_jax.types import Trajectory

    rng = np.random.default_rng(0)
    obs = np.cumsum(0.05 * rng.normal(size=(2, 10, 50, 2)), axis=2)
    reward = -np.linalg.norm(obs - rng.uniform(size=(2, 1, 1, 2)), axis=-1)
    expected = torch_maml.advantages(obs, reward, 0.9)
    false = np.zeros(reward.shape, bool)
    last = np.broadcast_to(np.arange(50) == 49, reward.shape)
    trajectories = Trajectory(obs, obs, reward, reward, obs, false, last, ~false)
    prepared = jax.vmap(
        lambda x: policy_gradient.prepare(x, discount=0.9, gae_lambda=1.0)
    )(jax.tree.map(jnp.asarray, trajectories))
    # The two penalise the baseline's weights differently.
    np.testing.assert_allclose(prepared.advantage, expected, atol=0.03)


def test_an_agent_without_memory_is_trained_as_one_with_it_and_carries_nothing():
    import world_learning

    sizes = {"num_tasks": 2, "num_episodes": 2, "horizon": 3, "num_minibatches": 1}
    experiments = [
        world_learning.build("maze", agent, **sizes) for agent in ("rl2", "memoryless")
    ]
    _, algorithm = (experiment.algorithm for experiment in experiments)
    key = jax.random.key(0)
    state = jax.eval_shape(algorithm.init, key)
    assert jax.eval_shape(algorithm.step, key, state)[0] == state
    first, second = (e.origin.options for e in experiments)
    assert first == second
    policy, obs = algorithm.policy, jnp.ones(29)
    params = policy.init(key, 0.0, obs)
    acted = [policy.apply(params, memory, obs) for memory in (0.0, 5.0)]
    assert acted[0][0].logits.tolist() == acted[1][0].logits.tolist()
    assert [memory for *_, memory in acted] == [0.0, 5.0]


@pytest.fixture
def seeds():
    rng = np.random.default_rng(19)
    means = {"worst": 0.0, "best": 20.0, "good": 18.0, "alike": 17.5}
    return {name: mean + rng.normal(size=4) for name, mean in means.items()}


@pytest.mark.parametrize("reference", [None, "good"])
def test_what_is_said_to_differ_is_what_welch_s_and_holm_s_tests_find(seeds, reference):
    """By scipy's tests, and a plain loop over the ordered p-values."""
    pairs = [(a, b) for a in seeds for b in seeds if a < b]
    pairs = [pair for pair in pairs if reference in (None, *pair)]
    tests = {
        (a, b): stats.ttest_ind(seeds[a], seeds[b], equal_var=False) for a, b in pairs
    }
    real, still = set(), True
    for number, pair in enumerate(sorted(pairs, key=lambda pair: tests[pair].pvalue)):
        still = still and tests[pair].pvalue * (len(pairs) - number) < 0.05
        real |= {pair} if still else set()
    by_themselves = [pair for pair in pairs if tests[pair].pvalue < 0.05]
    assert 0 < len(real) < len(by_themselves) < len(pairs)
    said = telling_apart.told_apart(seeds, digits=2, reference=reference)
    found, _, alike = said.partition("not told apart")
    clauses = dict(x.split(" over ") for x in found.split("; ") if x)
    for a, b in pairs:
        gap = seeds[a].mean() - seeds[b].mean()
        ends = tests[a, b].confidence_interval(0.95)
        (better, worse), sign = ((a, b), 1) if gap > 0 else ((b, a), -1)
        low, high = sorted(sign * end for end in ends)
        line = f"{worse} {abs(gap):.2f} ({low:.2f} to {high:.2f})"
        assert (line in clauses.get(better, "")) == ((a, b) in real)
        names = [name for name in seeds if name in (a, b) and name != reference]
        named = f" {' and '.join(names)} (" in alike
        assert named == ((a, b) not in real)


def test_of_the_same_tasks_what_is_hard_for_all_does_not_count(seeds):
    hard = np.array([0.0, 30.0, -40.0, 90.0])
    tasks = {name: values + hard for name, values in seeds.items()}
    pair = {name: tasks[name] for name in ("worst", "good")}
    low, high = stats.ttest_rel(*pair.values()).confidence_interval(0.95)
    gap = np.mean(pair["good"] - pair["worst"])
    said = telling_apart.told_apart(pair, same_tasks=True)
    assert said == f"good over worst {gap:.1f} ({-high:.1f} to {-low:.1f})"
    assert "not told apart: worst and good" in telling_apart.told_apart(pair)


def test_columns_of_a_table_are_told_apart_with_one_correction_for_all(seeds):
    """Each by scipy's test; a column that lacks a row has no difference."""
    shifts = (0.0, -1.5, 30.0)
    table = {f"at {x}": {**seeds, "good": seeds["good"] + x} for x in shifts}
    del table["at 30.0"]["alike"]
    others = ["best", "alike"]
    said = telling_apart.columns_apart(table, "good", others, digits=2)
    tests = {
        (column, other): stats.ttest_ind(rows["good"], rows[other], equal_var=False)
        for column, rows in table.items()
        for other in others
        if other in rows
    }
    smallest = sorted(tests, key=lambda pair: tests[pair].pvalue)
    real = set()
    for number, pair in enumerate(smallest):
        if tests[pair].pvalue * (len(tests) - number) >= 0.05:
            break
        real.add(pair)
    assert 0 < len(real) < len(tests) == 5
    for (column, other), test in tests.items():
        gap = table[column]["good"].mean() - seeds[other].mean()
        low, high = sorted(np.sign(gap) * end for end in test.confidence_interval(0.95))
        line = f"{column} {abs(gap):.2f} ({low:.2f} to {high:.2f})"
        who = f"good over {other}: " if gap > 0 else f"{other} over good: "
        clauses = [clause for clause in said.split("; ") if line in clause]
        assert [clause.startswith(who) for clause in clauses] == [True] * len(clauses)
        assert len(clauses) == ((column, other) in real)
        alike = said.partition(f"good and {other} not told apart: ")[2].split("; ")[0]
        assert (column in alike) == ((column, other) not in real)


def test_seeds_of_a_mean_and_its_interval_are_told_apart_as_the_seeds_themselves(seeds):
    like = {}
    for name, values in seeds.items():
        mean, error = values.mean(), stats.sem(values)
        ends = stats.t.interval(0.95, len(values) - 1, mean, error)
        like[name] = telling_apart.seeds_like(mean, *ends, len(values))
    assert telling_apart.told_apart(like) == telling_apart.told_apart(seeds)


def test_a_part_of_a_page_is_made_anew_and_the_rest_is_kept():
    page = "# A\n\n<!-- made by benchmarks/x.py -->\nold\n<!-- to here -->\n\nend\n"
    once = measuring.rewritten(page, "x.py", "new")
    assert once.startswith("# A\n")
    assert once.endswith("\n\nend\n")
    assert "\n\nnew\n\n" in once
    assert "old" not in once
    assert measuring.rewritten(once, "x.py", "new") == once
    with pytest.raises(ValueError, match=r"must have the mark .*y\.py"):
        measuring.rewritten(page, "y.py", "new")


def test_a_row_that_is_timed_again_leaves_the_others_as_they_were(tmp_path):
    one, other = {"step_seconds": 1.0}, {"step_seconds": 2.0}
    old = {
        "hardware": {"cores": 1},
        "steps": {"a": one, "b": one},
        "rollouts": {"x": 1},
    }
    path = tmp_path / "record.json"
    assert measuring.joined(path, "steps", {"b": other}) == {"steps": {"b": other}}
    path.write_text(json.dumps(old))
    new = measuring.joined(path, "steps", {"b": other, "c": other})
    assert (new["hardware"], new["rollouts"]) == (old["hardware"], old["rollouts"])
    assert list(new["steps"]) == ["a", "b", "c"]
    assert new["steps"]["a"] == one
    assert new["steps"]["b"].pop("hardware")["cores"] >= 1
    assert new["steps"]["b"] == other


@pytest.mark.parametrize("what", ["amago", "hyperx"])
def test_a_timed_step_takes_as_many_steps_of_the_environment_as_it_says(what):
    algorithm, env_steps = step_time.built(what, 64, "relu")
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    traced = jax.make_jaxpr(algorithm.step)(jax.random.key(0), state)
    assert tracing.count_named(traced.jaxpr, ENVIRONMENT_STEP) == env_steps
