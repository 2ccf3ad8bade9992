"""What is said of the inside of an agent, where the answer is known."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import metarl_jax
from metarl_jax import evaluation
from metarl_jax.cli import main
from metarl_jax.distributions import Categorical
from metarl_jax.envs.bandit import bernoulli_bandit, correlated_bandit
from metarl_jax.envs.grid_navigation import goal_cells, grid_navigation
from metarl_jax.envs.point_navigation import (
    point_navigation,
    sparse_point_navigation,
)
from metarl_jax.inspection import (
    attending,
    features,
    inspecting,
    layers,
    lines,
    maps,
    memories,
    posteriors,
    probes,
    similarity,
    visits,
)
from metarl_jax.inspection.looking import look, mean_return
from metarl_jax.plotting import insides
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.policies.transformer import Transformer
from metarl_jax.runs import files
from metarl_jax.runs.experiment import Evaluation
from metarl_jax.types import Trajectory

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
FIRST = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def draws():
    """What a test draws is the same whatever ran before it."""
    RNG.bit_generator.state = FIRST


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """Compiling is what these cost."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def pulls(action, reward):
    """A trial of a bandit, from what was pulled and paid."""
    n = len(action)
    no = jnp.zeros(n, bool)
    obs = jnp.ones((n, 1))
    action, reward = jnp.asarray(action), jnp.asarray(reward, jnp.float32)
    return Trajectory(obs, action, reward, reward, obs, no, no, ~no)


# How alike two representations are.


def test_similarity_is_hilbert_schmidt_independence_normalised():
    x, y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 3))
    centre = np.eye(30) - 1 / 30

    def hsic(a, b):  # Kornblith et al. 2019, equation 3
        return np.trace(a @ a.T @ centre @ b @ b.T @ centre)

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    assert similarity.linear_cka(jnp.array(x), jnp.array(y)) == pytest.approx(
        expected, rel=1e-4
    )
    rows = RNG.random(30) < 0.6
    masked = similarity.linear_cka(jnp.array(x), jnp.array(y), jnp.array(rows))
    alone = similarity.linear_cka(jnp.array(x[rows]), jnp.array(y[rows]))
    assert masked == pytest.approx(float(alone), rel=1e-4)


def test_similarity_knows_no_rotation_and_no_scale_but_knows_strangers():
    x = jnp.array(RNG.normal(size=(400, 5)))
    turn = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    assert similarity.linear_cka(x, 3 * x @ turn + 2) == pytest.approx(1, abs=1e-5)
    assert similarity.linear_cka(x, x.at[:, 0].multiply(50)) < 0.6
    assert similarity.linear_cka(x, jnp.array(RNG.normal(size=(400, 5)))) < 0.1
    assert np.isnan(similarity.linear_cka(x, jnp.ones((400, 2))))


def test_movement_is_by_layer():
    before = {"params": {"a": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}}}
    before["params"]["log_std"] = jnp.zeros(2)
    after = jax.tree.map(lambda x: x + 2, before)
    moved = similarity.moved(before, after)
    assert {k: tuple(map(float, v)) for k, v in moved.items()} == {
        "a": (4.0, 2.0),
        "log_std": (pytest.approx(np.sqrt(8)), 0.0),
    }


# Probes, and what an ideal observer knows.


def test_a_linear_probe_is_ridge_regression_of_the_best_penalty():
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 2))
    y[:, 0] += x @ [1.0, -2.0, 0.5]
    scaled = (x - x.mean(0)) / x.std(0)

    def fit(penalty, rows):
        a = np.hstack([scaled[rows], np.ones((rows.sum(), 1))])
        ridge = penalty * np.diag([1, 1, 1, 0])
        return np.linalg.solve(a.T @ a + ridge, a.T @ y[rows])

    def left_out(penalty):
        every = np.arange(40)
        predicted = [np.append(scaled[i], 1) @ fit(penalty, every != i) for i in every]
        return np.sum((y - predicted) ** 2 / y.var(0))

    penalty = min(40 * probes._PENALTIES, key=left_out)
    expected = np.hstack([scaled, np.ones((40, 1))]) @ fit(penalty, np.ones(40, bool))
    np.testing.assert_allclose(probes.linear(x, y, x), expected, atol=1e-8)


def test_probes_read_what_is_there_and_nothing_else():
    x = RNG.normal(size=(300, 6))
    curved = np.abs(x[:, :1])
    read = {
        name: probes.r_squared(curved, probes.cross_validated(x[:, :1], curved, reader))
        for name, reader in memories.READERS.items()
    }
    assert read["nearest neighbours"] > 0.9  # a line cannot bend
    assert abs(read["linear probe"]) < 0.1
    straight = x @ RNG.normal(size=(6, 2)) + 4
    assert probes.r_squared(straight, probes.cross_validated(x, straight)) > 0.999
    for reader in memories.READERS.values():  # the control: strangers must fail
        strange = RNG.normal(size=(300, 1))
        predicted = probes.cross_validated(x, strange, reader)
        assert probes.r_squared(strange, predicted) < 0.05
    constant = probes.linear(np.ones((9, 2)), straight[:9], np.ones((3, 2)))
    np.testing.assert_allclose(constant, np.tile(straight[:9].mean(0), (3, 1)))
    with pytest.raises(ValueError, match="at least 10 trials; got 9"):
        probes.cross_validated(x[:9], straight[:9])


def test_neighbours_are_the_nearest():
    x = np.array([[0.0], [1.0], [2.0], [10.0]])
    y = np.array([[0.0], [2.0], [4.0], [6.0]])
    new = np.array([[0.1], [8.0]])
    found = probes.nearest(x, y, new, num_neighbours=2)
    np.testing.assert_allclose(found, [[1.0], [5.0]])
    assert probes.nearest(x, y, new, num_neighbours=9).tolist() == [[3.0], [3.0]]


def test_shares_of_variance():
    y = np.array([[0.0, 5.0], [2.0, 5.0], [4.0, 5.0]])  # the second never varies
    assert probes.r_squared(y, y) == 1
    assert probes.r_squared(y, np.full_like(y, 2.0)) == 0
    assert probes.r_squared(y, y[::-1]) == -3
    assert np.isnan(probes.r_squared(y[:, 1:], y[:, 1:]))


def test_directions_are_those_of_the_largest_variance():
    x = RNG.normal(size=(500, 3)) * [3.0, 1.0, 0.1]
    point, axes, share = probes.principal_axes(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    np.testing.assert_allclose(np.abs(axes), np.abs(vectors[:, :0:-1].T), atol=1e-9)
    np.testing.assert_allclose(share, values[:0:-1] / values.sum())
    np.testing.assert_allclose(point.var(axis=0, ddof=1), values[:0:-1])
    assert probes.principal_axes(x[:, :1])[2].tolist() == [1.0, 0.0]


def test_after_n_pulls_the_posterior_knows_n_of_n_plus_two_parts():
    """Var E[p | n pulls] / Var p = n / (n + 2) for p ~ U[0, 1] (Beta-binomial)."""
    tasks = bernoulli_bandit(num_arms=2, horizon=6)
    p = RNG.random(20_000)
    paid = RNG.random((20_000, 6)) < p[:, None]
    exact = posteriors.posterior_mean(tasks)
    arm = np.zeros(6, int)
    known = jax.vmap(lambda reward: exact(pulls(arm, reward)))(jnp.array(paid))
    assert known.shape == (20_000, 7, 2)
    assert np.all(known[:, :, 1] == 0.5)  # of the arm that is never pulled
    counts = paid.cumsum(axis=1)
    for n in (1, 3, 6):
        told = probes.r_squared(p[:, None], known[:, n, :1])
        assert told == pytest.approx(n / (n + 2), abs=0.015)
        read = probes.cross_validated(counts[:1000, n - 1 : n], p[:1000, None])
        assert probes.r_squared(p[:1000, None], read) == pytest.approx(
            n / (n + 2), abs=0.06
        )


def test_the_posterior_of_the_grid_is_that_of_an_enumeration():
    tasks = grid_navigation(horizon=5)
    cells = np.array([[0, 0], [1, 0], [2, 0], [2, 1], [1, 1], [1, 2]])
    shown = jax.nn.one_hot(cells[:, 0] * 5 + cells[:, 1], 25)
    reward = np.array([-0.1, -0.1, -0.1, -0.1, 1.0])
    no = jnp.zeros(5, bool)
    steps = Trajectory(
        shown[:-1], no, no, jnp.array(reward), shown[1:], no, no, ~no.at[4].set(False)
    )
    means, left = [], [tuple(cell) for cell in goal_cells()]
    for n in range(6):
        if n and n < 5:
            left = [cell for cell in left if cell != tuple(cells[n])]
        means.append(np.mean(left, axis=0))
    steps = steps._replace(mask=jnp.arange(5) < 4)  # the goal is not seen: padding
    known = posteriors.posterior_mean(tasks)
    np.testing.assert_allclose(known(steps), means, rtol=1e-5)
    found = known(steps._replace(mask=~no))
    np.testing.assert_allclose(found[-1], [1, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("tasks", "known"),
    [
        (sparse_point_navigation(), True),
        (sparse_point_navigation(goal_radius=0.3), False),
        (sparse_point_navigation(num_goals=7, num_heldout_goals=2), False),
        (point_navigation(), False),
        (correlated_bandit(), False),
        (grid_navigation(size=7), False),
        (grid_navigation(dense_reward=True), False),
        (grid_navigation(goal_first=True), False),
    ],
)
def test_a_posterior_is_claimed_only_where_it_is_known(tasks, known):
    exact = posteriors.posterior_mean(tasks)
    assert (exact is not None) == known
    if known:  # after nothing, the middle of the half-circle
        zeros, no = jnp.zeros((1, 2)), jnp.zeros(1, bool)
        steps = Trajectory(zeros, zeros, no, jnp.zeros(1), zeros, no, no, no)
        np.testing.assert_allclose(exact(steps)[0], [0, 0.6302], atol=1e-4)


# An agent that keeps counts knows what can be known; one that does not, nothing.


class Counting:
    """Pulls at random and keeps counts: of pulls, and of those that paid."""

    def initial_memory(self):
        return jnp.zeros((2, 2))

    def apply(self, params, memory, obs):
        del params, obs
        return Categorical(jnp.zeros(2)), jnp.zeros(()), memory

    def observe(self, memory, transition):
        pulled = jax.nn.one_hot(transition.action, 2)
        return memory + jnp.stack([pulled, pulled * transition.reward])


def test_a_memory_of_counts_is_read_and_a_random_network_forgets():
    """The first arm is pulled n = 14 times, then the second for a long time.

    Of the first arm n / (n + 2) parts can be known, then and ever after.
    """
    tasks = bernoulli_bandit(num_arms=2, horizon=74)
    p = RNG.random((300, 2))
    exact = jax.jit(jax.vmap(posteriors.posterior_mean(tasks)))
    in_turn = np.tile(np.arange(74) >= 14, (300, 1)).astype(int)
    at_random = RNG.integers(2, size=in_turn.shape)

    def rewarded(action):
        reward = RNG.random((300, 74)) < np.take_along_axis(p, action, axis=1)
        steps = jax.vmap(pulls)(jnp.array(action), jnp.array(reward))
        return steps, np.asarray(exact(steps))

    def holds(policy, params):
        @jax.jit
        def held(steps):
            memory = policy.initial_memory()
            walk = partial(features.along_trial, policy, params, memory)
            return jax.vmap(walk)(steps)[0]

        return held

    def told(x, y, read=probes.linear):
        return probes.r_squared(y, probes.cross_validated(np.asarray(x), y, read))

    policy = memory_policy(tasks, GRU(32))
    params = policy.init(KEY, policy.initial_memory(), jnp.ones(1))
    counting, random = holds(Counting(), {}), holds(policy, params)

    steps, known = rewarded(in_turn)
    first = p[:, :1]
    exactly = probes.r_squared(first, known[:, -2, :1])
    assert exactly == pytest.approx(14 / 16, abs=0.03)
    for t in (14, -1):
        assert told(counting(steps)[:, t], first) == pytest.approx(exactly, abs=0.03)
    # It keeps some of what it was shown last: a control is needed, and it must fail.
    assert 0.2 < told(random(steps)[:, 14], first) < exactly
    assert told(random(steps)[:, -1], first) < 0.15

    # Of two arms in disorder it fails by its main directions, and counts do not.
    steps, known = rewarded(at_random)
    exactly, few = probes.r_squared(p, known[:, 40]), probes.main_directions(2)
    shares = [told(held(steps)[:, 40], p, few) for held in (counting, random)]
    assert shares[0] > exactly - 0.25
    assert shares[1] < 0.35 < 0.5 < told(random(steps)[:, 40], p)


def test_what_a_memory_holds_is_what_its_heads_read():
    tasks = bernoulli_bandit(num_arms=2, horizon=3)
    policy = memory_policy(tasks, GRU(3))
    memory = policy.initial_memory()
    params = policy.init(KEY, memory, jnp.ones(1))
    steps = pulls([0, 1, 1], [1.0, 0.0, 1.0])
    held, entropy = features.along_trial(policy, params, memory, steps)
    logits = params["params"]["head"]["logits"]
    ours = jax.nn.log_softmax(held @ logits["kernel"] + logits["bias"])
    distribution, _ = policy.unroll(params, memory, steps)
    taken = jnp.take_along_axis(ours, steps.action[:, None], axis=1)[:, 0]
    np.testing.assert_allclose(taken, distribution.log_prob(steps.action), atol=1e-5)
    np.testing.assert_allclose(entropy, distribution.entropy(), atol=1e-5)


@pytest.mark.parametrize("context", [1, 4])
def test_attention_is_what_a_transformer_may_look_at(context):
    tasks = bernoulli_bandit(num_arms=2, horizon=6)
    policy = memory_policy(tasks, Transformer(8, 2, 2, context))
    memory = policy.initial_memory()

    @jax.jit
    def run(key, steps):
        params = policy.init(key, memory, jnp.ones(1))
        return features.attention(policy, params, memory, steps)

    weight = run(KEY, pulls([0, 1, 1, 0, 0, 1], [1.0, 0, 1, 0, 1, 1]))
    assert weight.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(weight.sum(axis=-1), 1, rtol=1e-5)
    distance = np.arange(6)[:, None] - np.arange(6)
    visible = (distance >= 0) & (distance < context)
    assert np.all((weight > 0) == visible)
    if context == 1:
        np.testing.assert_allclose(weight, np.broadcast_to(np.eye(6), weight.shape))


def test_a_gru_does_not_attend():
    policy = memory_policy(bernoulli_bandit(num_arms=2), GRU(3))
    memory = policy.initial_memory()
    params = policy.init(KEY, memory, jnp.ones(1))
    assert features.attention(policy, params, memory, pulls([0], [1.0])) is None


# One look at agents whose answers are known.


def make(name, method, **options):
    small = {"num_tasks": 2, "num_episodes": 2, "hidden_sizes": (4,), "num_steps": 1}
    return metarl_jax.make_experiment(name, method=method, **{**small, **options})


def looked_at(experiment, protocol):
    agent = jax.jit(experiment.algorithm.init)(KEY).agent
    return look(KEY, experiment, agent, protocol)


@pytest.fixture(scope="module")
def adapted():
    experiment = make("point-nav", "anil", horizon=4, inner_lr=0.5)
    return looked_at(experiment, Evaluation(20, 2, 1))


@pytest.fixture(scope="module")
def remembering():
    options = {"core": "transformer", "size": 8, "grid_size": 5, "horizon": 5}
    options |= {"num_minibatches": 1, "hidden_sizes": ()}
    experiment = make("grid-navigation", "rl2", **options)
    return looked_at(experiment, Evaluation(20, 1, 1))


def test_a_look_is_at_the_episodes_of_the_evaluation(adapted):
    experiment = adapted.experiment
    curve = evaluation.evaluate(
        KEY,
        experiment.tasks,
        experiment.algorithm.policy,
        experiment.algorithm.adapt,
        adapted.agent,
        **adapted.protocol._asdict(),
    )
    rounds = adapted.rounds
    ours = np.sum(rounds.reward, axis=-1, where=rounds.mask).mean(axis=-1)
    np.testing.assert_allclose(ours, curve, rtol=1e-4)
    np.testing.assert_allclose(adapted.target, adapted.tasks.goal, rtol=1e-6)
    assert adapted.names == ("goal x", "goal y")


def test_of_anil_the_head_alone_moves(adapted):
    seen = layers.layers(adapted)
    assert np.all(seen["distance"]["hidden_0"] == 0)
    assert np.all(seen["distance"]["mean"] > 0)
    np.testing.assert_allclose(seen["similarity"]["hidden_0"], 1, atol=1e-4)
    assert seen["return_of"] is None  # no features that moved
    assert list(seen["distance"]) == ["hidden_0", "log_std", "mean"]
    assert seen["relative"]["log_std"] is None  # it was zero
    assert "hidden_0 least, by 0.0%" in seen["said"]
    assert memories.memory(adapted) is None
    assert attending.attending(adapted) is None


def test_a_plane_passes_through_its_agents(adapted):
    seen = lines.plane(adapted)
    i, j = lines._furthest(adapted.target)
    assert seen["task_a"].tolist() == adapted.target[i].tolist()
    ends = np.argmin(np.abs(seen["line"]), axis=0), np.argmin(np.abs(seen["line"] - 1))
    for end, n in zip(ends, (i, j), strict=True):
        params = jax.tree.map(lambda x, n=n: x[n, -1], adapted.agents.params)
        for key, m in (("line_a", i), ("line_b", j)):
            task = jax.tree.map(lambda x, m=m: x[m], adapted.tasks)
            alone = mean_return(adapted, adapted.key, params, task, num_episodes=2)
            assert seen[key][end] == pytest.approx(float(alone), rel=1e-4)


def test_a_map_of_parameters_that_follow_the_task_tells_it(adapted):
    point = adapted.target @ [[1.0, 2.0], [-1.0, 0.5]]
    start = np.zeros((20, 2, 2))
    start[:, 1] = point
    follows = adapted._replace(agents=adapted.agents._replace(params=start))
    seen = maps.task_map(follows)
    assert seen["told"] > 0.999
    assert seen["control"] < 0.3
    assert seen["untrained"] < seen["told"]
    assert seen["share"].sum() == pytest.approx(1)
    start[:, 1] = np.random.default_rng(1).normal(size=point.shape)
    strange = maps.task_map(
        adapted._replace(agents=adapted.agents._replace(params=start))
    )
    assert strange["told"] < 0.3
    few = adapted._replace(protocol=Evaluation(19, 2, 1))
    assert maps.task_map(few) is None


def test_visits_are_counted(remembering):
    rounds = remembering.rounds
    cell = np.zeros((20, 2, 1, 5), int)
    cell[:, 0] = [0, 1, 2, 3, 4]  # up at first, five cells
    goals = np.asarray(remembering.tasks.goal)
    cell[:, 1] = (goals @ [5, 1])[:, None, None]  # at last on the goal
    walked = rounds._replace(next_obs=np.eye(25)[cell])
    seen = visits.visits(remembering._replace(rounds=walked))
    np.testing.assert_allclose(seen["first"][0], np.full(5, 0.2))
    assert seen["first"][1:].sum() == 0
    share = np.mean((goals == [4, 4]).all(axis=1))
    assert seen["last"][4, 4] == pytest.approx(share)
    assert seen["visited"] == [5.0, 1.0]
    assert seen["bins"] == 25
    on_first = np.mean(
        [sum(g[1] == y and g[0] == 0 for y in range(5)) / 5 for g in goals]
    )
    assert seen["at_goal"] == [pytest.approx(on_first), 1.0]
    assert "the search narrows" in seen["said"]


def test_all_of_a_memory_is_drawn_and_its_controls_are_said(remembering, tmp_path):
    parts = (memories.memory, maps.task_map, attending.attending, visits.visits)
    names = ("memory", "map", "attention", "visits")
    seen = {name: part(remembering) for name, part in zip(names, parts, strict=True)}
    assert layers.layers(remembering) is None
    assert lines.plane(remembering) is None
    told = seen["memory"]["r_squared"]
    assert list(told) == [
        *("exact posterior", "linear probe", "nearest neighbours"),
        *("untrained network", "tasks dealt anew"),
    ]
    # Before the first step nothing is known, and the ideal observer never forgets.
    assert told["exact posterior"][0] == pytest.approx(0, abs=0.1)
    assert all(np.diff(told["exact posterior"]) > -0.2)
    older = {k: v for k, v in seen["memory"].items() if "directions" not in k}
    assert len(insides.memory(files.jsonable(older)).axes) == 2
    assert "untrained network's" in seen["memory"]["said"]
    # Nobody was trained here, and it is said.
    assert set(seen["memory"]["main_directions"]) == {memories.OWN, memories.STRANGERS}
    assert "this says nothing of what was learned" in seen["memory"]["said"]
    assert "the map does not tell tasks apart" in seen["map"]["said"]
    attention = seen["attention"]["weight"]
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-4)
    written = inspecting.write(files.jsonable(seen), tmp_path, "svg")
    assert [p.name for p in written[1:]] == [f"inspected_{n}.svg" for n in names]
    for part, record in json.loads(written[0].read_text()).items():
        figure = insides.DRAWN[part](record)
        assert isinstance(figure, Figure)
        assert all(axes.get_xlabel() for axes in figure.axes if axes.get_title())


@pytest.mark.parametrize(
    ("own", "strange", "learned"),
    [(0.38, 0.2, False), (0.51, 0.2, True), (0.38, 0.31, True), (0.1, 0.0, False)],
)
def test_a_memory_that_says_nothing_new_is_called_so(own, strange, learned):
    row = {"linear probe": [0.4], "nearest neighbours": [0.3]}
    row |= {"untrained network": [0.38], "tasks dealt anew": [0.0]}
    found = {"steps": [9], "unit": "steps of the trial seen", "r_squared": row}
    ours = {memories.OWN: own, memories.STRANGERS: strange}
    control = {"exact posterior": None, "untrained": 0.4}
    rows = {name: {**control, "trained": share} for name, share in ours.items()}
    rows[memories.STRANGERS]["untrained"] = 0.2
    found |= {"judged": 0, "num_directions": 2, "main_directions": rows}
    assert ("says nothing of what was learned" in memories.said(found)) != learned
    assert ("to hold the task was learned" in memories.said(found)) == learned
    assert "too few trials" not in memories.said(found)
    row["tasks dealt anew"] = [0.4]
    assert "too few trials" in memories.said(found)


def test_a_run_is_inspected_drawn_and_reported(tmp_path, capsys):
    run = tmp_path / "run"
    experiment = make("point-nav", "maml", horizon=4)
    metarl_jax.train(experiment, output_dir=run, quiet=True)
    counts = ["--num-tasks", "2", "--num-adaptation-steps", "1"]
    assert main(["inspect", str(run), "--parts", "layers", "visits", *counts]) == 0
    said = capsys.readouterr().out
    seen = json.loads((run / "inspection.json").read_text())
    assert list(seen) == ["layers", "visits"]
    for part, record in seen.items():
        assert f"{part}: {record['said']}" in " ".join(said.split())
        assert (run / f"inspected_{part}.png").stat().st_size > 5000
    assert set(seen["layers"]["return_of"]) == set(layers.PARTS)
    assert main(["report", str(run)]) == 0
    assert "What was learned" in (run / "report.html").read_text()
    assert main(["inspect", str(run), "--parts", "layer"]) == 2
    assert "layer" in capsys.readouterr().err
    del seen["layers"]["similarity"]
    (run / "inspection.json").write_text(json.dumps(seen))
    assert main(["plot", str(run)]) == 2
    assert "inspection.json, layers" in " ".join(capsys.readouterr().err.split())
