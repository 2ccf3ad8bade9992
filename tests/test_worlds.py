"""Every method in every world; what is chosen, by which name, with which options."""

import dataclasses
import inspect
import json
import sys
from functools import cache

import jax
import pytest
from jax import jit

from metarl_jax import catalogue, choice, recipe, rollout
from metarl_jax.choice import Choice
from metarl_jax.envs import highway, metaworld, mujoco, xland
from metarl_jax.envs.host import HostEnvironment as Host
from metarl_jax.evaluation import references
from metarl_jax.options import Option, can_be_written, grouped, options_of
from metarl_jax.runs import own_files
from metarl_jax.settings import POLICIES
from metarl_jax.tracing import count_named
from metarl_jax.types import ENVIRONMENT_STEP

WORLDS = list(catalogue.entries("worlds"))
METHODS = list(catalogue.entries("methods"))
EXPERIMENTS = list(catalogue.entries("experiments"))
KEY = jax.random.key(0)
SMALL = {
    **{"num_tasks": 2, "num_episodes": 2, "horizon": 3, "num_train_tasks": 2},
    **{"hidden_sizes": (3,), "size": 3, "decoder_hidden_sizes": (3,), "core": "gru"},
    **{"num_minibatches": 1, "num_updates": 1, "batch_size": 2, "context_size": 2},
    # It is traced in a fraction of a trust region's time.
    "outer_optimizer": "adam",
}


@cache
def built_once(world, x64):
    """A world that makes a family once, whichever methods ask for it."""
    found = catalogue.load(world, "worlds")
    return found._replace(tasks=cache(found.tasks))


def small(world, method):
    """What is built of a pair, with those of the options that make it small."""
    found = built_once(world, jax.config.jax_enable_x64)
    build = recipe.Recipe(found, catalogue.load(method, "methods"))
    known = inspect.signature(build).parameters
    return build(**{name: value for name, value in SMALL.items() if name in known})


def why_not(world, method):
    """What the sentence must say with which a pair is refused; None if it works."""
    if world.startswith(("ant-", "humanoid-")) and not mujoco.is_installed():
        return r'pip install "metarl-jax\[mujoco\]"'
    if world.startswith("metaworld-") and not metaworld.is_installed():
        return r'pip install "metarl-jax\[metaworld\]"'
    if world == "highway" and not highway.is_installed():
        return r'pip install "metarl-jax\[driving\]"'
    if world == "xland" and not xland.is_installed():
        return r'pip install "metarl-jax\[games\]"'
    tasks = built_once(world, jax.config.jax_enable_x64).tasks()
    lives = ("lpg", "lpo", "open", "meta-gradients")
    if method in lives and isinstance(tasks.env, Host):
        return "is stepped on the host"
    if method == "pearl" and not hasattr(tasks.action_space, "low"):
        return "squashed actions need a Box"
    if method == "dpt" and tasks.optimal_action is None:
        return "optimal_action is required"
    return None


def trace(world, method):
    """Traces a step, a trial and what is adapted to it."""
    if reason := why_not(world, method):
        with pytest.raises(ValueError, match=reason) as refusal:
            small(world, method)
        assert "\n" not in str(refusal.value)
        return
    experiment = small(world, method)
    algorithm, tasks = experiment.algorithm, experiment.tasks
    state = jax.eval_shape(algorithm.init, KEY)
    new_state, info = jax.eval_shape(algorithm.step, KEY, state)
    assert new_state == state
    assert {"return_before", "return_after", "skipped"} <= set(info._fields)

    def trial(key, agent):
        task = tasks.sample_heldout(key)
        agent, trajectories = rollout.collect(
            key, tasks, algorithm.policy, agent, task, num_episodes=2
        )
        return algorithm.adapt(key, agent, trajectories)

    assert jax.eval_shape(trial, KEY, state.agent) == state.agent


# Methods that differ in the defaults of the same function are traced once.
BUILDS = {catalogue.load(name, "methods").build: name for name in reversed(METHODS)}


# What a family may say of its tasks, which some methods ask for.
TOLD = "optimal_action", "revealed_reward", "relabel", "achieved", "expected_reward"


def asked_for(method):
    """Which of these a method's sources speak of."""
    module = sys.modules[catalogue.load(method, "methods").build.__module__]
    names = {one.__module__ for one in vars(module).values() if inspect.isfunction(one)}
    own = [name for name in names if name.startswith("metarl_jax.")]
    sources = [inspect.getsource(sys.modules[name]) for name in own]
    return tuple(name for name in TOLD if any(f".{name}" in text for text in sources))


@cache
def kinds(asked):
    """A world of each kind: what a method sees of it, and where it is stepped.

    Every world is traced with its references, below.
    """
    found = {}
    small_first = sorted(WORLDS, key=lambda name: name not in ("cartpole", "pendulum"))
    for world in small_first:
        if why_not(world, "reptile"):
            found[world] = world
            continue
        tasks = built_once(world, x64=False).tasks()
        seen = [*jax.tree.leaves(tasks.observation), tasks.action_space]
        kind = [(type(x), len(x.shape), x.dtype) for x in seen]
        told = [getattr(tasks, name) is None for name in asked]
        found.setdefault(str((kind, told, isinstance(tasks.env, Host))), world)
    return list(found.values())


@pytest.mark.parametrize("method", sorted(BUILDS.values()))
def test_every_method_is_traced_in_every_kind_of_world(method):
    """Where JAX promotes neither types nor ranks: then it is traced where it does."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for world in kinds(asked_for(method)):
            trace(world, method)


# Settings of JAX that users make; strict promotion has no place in float64.
MODES = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "float64": lambda: jax.enable_x64(True),
}


@pytest.mark.parametrize("method", sorted(BUILDS.values()))
def test_every_method_is_traced_in_float64(method):
    """Where choices are numbers, and where they are vectors."""
    with jax.enable_x64(True):
        for world in ("bandit", "pendulum"):
            trace(world, method)


@pytest.mark.parametrize("mode", MODES)
def test_every_world_and_its_references_are_traced_in_any_mode(mode):
    """Its references act and adapt in it as a step does, which is not traced again."""
    with MODES[mode](), jax.numpy_rank_promotion("raise"):
        for world in WORLDS:
            if why_not(world, "reptile"):
                trace(world, "reptile")
                continue
            experiment = small(world, "reptile")
            algorithm, tasks = experiment.algorithm, experiment.tasks

            def evaluate(key, algorithm=algorithm, tasks=tasks):
                agent = algorithm.init(key).agent
                protocol = {"num_tasks": 2, "num_episodes": 2}
                return references(
                    key, tasks, algorithm, agent, num_adaptation_steps=1, **protocol
                )

            for curve in jax.eval_shape(evaluate, KEY).values():
                assert curve.shape == (2, 2)
            drawn = jax.eval_shape(tasks.sample, KEY)
            assert drawn == jax.eval_shape(tasks.sample_heldout, KEY)


@pytest.mark.parametrize("mode", MODES)
def test_a_trust_region_is_traced_in_any_mode(mode):
    with MODES[mode](), jax.numpy_rank_promotion("raise"):
        build = Choice("point-nav", "maml").load()
        sizes = {"num_tasks": 2, "num_episodes": 2, "hidden_sizes": (3,)}
        algorithm = build(**sizes, horizon=12).algorithm
        state = jax.eval_shape(algorithm.init, KEY)
        assert jax.eval_shape(algorithm.step, KEY, state)[0] == state


@pytest.mark.parametrize(
    ("world", "method"),
    [
        ("grid-navigation", "promp"),
        ("bandit", "varibad"),
        ("pendulum", "pearl"),
        ("cartpole", "rl2"),
        ("two-step", "reptile"),
    ],
)
def test_two_steps_are_taken_on_the_diagonal(world, method):
    algorithm = small(world, method).algorithm
    state = jit(algorithm.init)(KEY)
    step = jit(algorithm.step)
    for i in range(2):
        state, info = step(jax.random.key(i), state)
        assert not info.skipped
        assert jax.numpy.isfinite(info.return_after)


def test_every_option_is_documented_once_and_every_table_speaks_of_options():
    everywhere = set()
    for world in WORLDS:
        for method in METHODS:
            build = Choice(world, method).load()
            names = []
            for options in build.groups().values():
                for option in options:
                    assert option.help.endswith("."), (world, method, option)
                    assert can_be_written(option.default)
                    names.append(option.name)
            assert len(names) == len(set(names))
            everywhere |= set(names)
            mine = catalogue.load(world, "worlds").defaults.get(method, {})
            assert set(mine) <= set(names), (world, method)
    kinds = {"all", "gradient", "memory", "inference", "rule"}
    for world in WORLDS:
        defaults = catalogue.load(world, "worlds").defaults
        assert set(defaults) <= {*kinds, *METHODS}, world
        for table in defaults.values():
            assert set(table) <= everywhere, world
    for name in METHODS:
        method = catalogue.load(name, "methods")
        assert method.name == name
        known = [option.name for option in options_of_method(method)]
        assert method.policy in POLICIES
        known += [field.name for field in dataclasses.fields(POLICIES[method.policy])]
        assert set(method.defaults) <= {*known, "show_task"}
    for name in EXPERIMENTS:
        assert catalogue.summaries("experiments")[name].endswith(".")
        assert catalogue.load(name, "experiments").method.name in METHODS


def options_of_method(method):
    return options_of(method.build, skip=("tasks", "policy"))


@pytest.mark.parametrize(
    "method", ["maml", "promp", "reptile", "es-maml", "pretraining"]
)
def test_every_method_acts_in_navigation_as_often_as_its_budget_says(method):
    """Each structure of a step once."""
    build = Choice("point-nav", method).load()
    defaults = {n: p.default for n, p in build.__signature__.parameters.items()}
    experiment = build(num_tasks=2, num_episodes=5, horizon=2, hidden_sizes=(2,))
    state = jax.eval_shape(experiment.algorithm.init, KEY)
    traced = jax.make_jaxpr(experiment.algorithm.step)(KEY, state)
    acted = count_named(traced, ENVIRONMENT_STEP) / (2 * 5 * 2)  # rounds
    collected = defaults["num_tasks"] * defaults["num_episodes"]
    total = acted * collected * experiment.num_steps
    assert total == pytest.approx(2 * 400 * 100, rel=0.01)


def test_defaults_are_looked_up_from_the_function_to_the_recipe():
    world = recipe.World(
        catalogue.load("bandit", "worlds").tasks,
        {"all": {"num_steps": 2, "horizon": 4}, "gradient": {"num_steps": 3}},
    )
    maml = catalogue.load("maml", "methods")

    def value(recipe, name):
        return recipe.__signature__.parameters[name].default

    plain = recipe.Recipe(world, maml)
    assert [value(plain, n) for n in ("num_arms", "horizon", "num_steps")] == [5, 4, 3]
    own = world._replace(defaults={**world.defaults, "maml": {"num_steps": 5}})
    assert value(recipe.Recipe(own, maml), "num_steps") == 5
    assert value(recipe.Recipe(own, maml, {"num_steps": 6}), "num_steps") == 6
    assert value(plain.but(num_steps=7), "num_steps") == 7
    assert plain(num_steps=8, horizon=2).num_steps == 8
    for wrong, message in [
        (lambda: plain(nun_steps=1), "no option nun_steps"),
        (lambda: plain.but(nun_steps=1), "nun_steps is not an option"),
        (lambda: recipe.Recipe(world, maml, policy="mpl"), "policy must be one of"),
        (lambda: recipe.Recipe(world, maml, policy="memory")(), "memory"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_options_are_read_off_a_signature():
    def function(*, rate: "float" = 0.1, names: tuple[str, ...] = ("a",), flag=False):
        """Does.

        Args:
          rate: how
            fast.
          names: of what.
        """

    assert options_of(function) == [
        Option("rate", float, 0.1, "how fast."),
        Option("names", tuple[str, ...], ("a",), "of what."),
        Option("flag", bool, False, ""),
    ]
    assert grouped(function, {"rate": 1, "other": 2}) == {"rate": 1}
    for wrong in (lambda *, a: a, lambda *, a=KEY: a, lambda **a: a):
        with pytest.raises(ValueError, match="a"):
            options_of(wrong)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file of one's own, in a directory from which commands are given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.py"
    path.write_text("value = 3\n\ndef walk(*, num_steps: int = 2):\n    return None\n")
    yield path
    for name in [name for name in sys.modules if name.startswith("_own_mine")]:
        del sys.modules[name]


def test_a_record_imports_only_what_the_user_has_named(own, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    stranger = {"experiment": "x", "chosen": Choice(f"{own}:walk").record()}
    with pytest.raises(ValueError, match=r"no file that was trained from here.*again"):
        choice.recorded(stranger, run)
    named = Choice("mine.py:walk").named()
    assert named.name == f"{own}:walk"
    assert named.label == "mine-walk"
    config = json.loads(json.dumps({"experiment": "x", "chosen": named.record()}))
    assert choice.recorded(config, run) == named
    assert not any(name.startswith("_own_mine") for name in sys.modules)

    inside = run / "mine.py"
    inside.write_text(own.read_text())
    config = {"experiment": "x", "chosen": Choice(f"{inside}:walk").named().record()}
    for where in (run, tmp_path / "link"):
        (tmp_path / "link").exists() or (tmp_path / "link").symlink_to(run)
        with pytest.raises(ValueError, match="inside of the run's directory"):
            choice.recorded(config, where)

    config = {"experiment": "x", "chosen": named.record()}
    own.write_text(own.read_text() + "\n")
    with pytest.raises(ValueError, match="has changed"):
        choice.recorded(config, run)
    again = choice.recorded(config, run, {"name": "mine.py:walk", "method": None})
    assert again == named
    assert own_files.is_remembered(again.sources()["name"])
    own.unlink()
    with pytest.raises(ValueError, match=r"is gone; .*--experiment mine.py:walk"):
        choice.recorded(config, run)


@pytest.mark.parametrize(
    "parts",
    [3, [], {}, {"name": 3}, {"name": None}, {"name": "bandit", "method": []}]
    + [{"name": "bandit", "sources": x} for x in (3, [1], {"name": {}}, {"name": 3})],
)
def test_a_record_that_names_nothing_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="does not say what it trains"):
        choice.recorded({"experiment": "x", "chosen": parts}, tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.py:walk", "no file nothing.py"),
        ("mine.py", "FILE.py:NAME"),
        ("mine.py:", "FILE.py:NAME"),
        ("mine.py:absent", "nothing called absent"),
        ("mine.py:value", "must be a World, a Recipe or a function"),
        ("broken.py:walk", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_name_of_one_s_own_that_is_wrong_is_refused(own, name, message):
    (own.parent / "broken.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=message):
        Choice(name).load()


def test_labels_can_name_a_directory(own):
    assert Choice("bandit").label == "bandit-maml"
    assert Choice("bandit", "promp").label == "bandit-promp"
    assert Choice("bandit-rl2").label == "bandit-rl2"
    assert Choice("grid-rl2", policy="hypernetwork").label == "grid-rl2-hypernetwork"
    assert Choice("bandit", f"{own}:walk").label == "bandit-mine-walk"
