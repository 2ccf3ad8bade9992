"""What holds of every file: imports point one way, and algorithms can be pasted."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import metarl_jax
from metarl_jax.envs.bandit import bernoulli_bandit
from metarl_jax.policies.memory import memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU
from metarl_jax.types import MetaAlgorithm

PACKAGE = Path(metarl_jax.__file__).parent
ALGORITHMS = sorted(
    p for p in (PACKAGE / "algorithms").glob("*.py") if p.stem != "__init__"
)

# A module may import those of lower layers; a package's modules also one another.
LAYERS = [
    {"deferred", "errors"},
    {"spaces", "memory", "promotion", "tracing", "linear_algebra"},
    {"types"},
    {"distributions", "returns", "updates", "tallies"},
    {"validation"},
    {"surrogates", "trust_region"},
    {"aggregation", "batching", "policy_gradient"},
    {"inner_loop", "replay_buffer", "soft_actor_critic", "evolution", "rule_network"},
    {"critic_ensemble"},
    {"policies", "envs", "strategies"},
    {"rollout", "outer_loop"},
    {"trials", "adaptation", "lifetimes", "actor_critic", "histories", "bonuses"},
    {"learned_numbers", "rule_learner", "optimizer_network"},
    {"algorithms", "update_rules"},
    {"evaluation", "intervals"},
    {"differences", "sample_efficiency"},
    {"catalogue", "options", "datasets"},
    {"settings", "runs"},
    {"recipe"},
    {"worlds", "methods"},
    {"experiments"},
    {"choice", "training", "tracking", "plotting"},
    {"acting", "learned", "report", "published"},
    {"export", "inspection"},
    {"reproduction", "sweeps"},
    {"cli"},
]
WITHIN = {
    *("validation", "policies", "envs", "strategies", "runs", "plotting"),
    *(
        "update_rules",
        "worlds",
        "experiments",
        "export",
        "inspection",
        "reproduction",
        "sweeps",
        "cli",
    ),
}
THIN = {("anil", "maml"), ("hyperx", "varibad")}
IMPURE = {"tracking", "memory", "catalogue", "choice", "runs", "training", "plotting"}
IMPURE |= {"learned", "report", "export", "inspection", "reproduction", "sweeps"}
IMPURE |= {"cli", "published", "datasets"}


def unit(path):
    """A package's folder, or the module itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer(name):
    return next(i for i, names in enumerate(LAYERS) if name in names)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that it pastes"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from names


MODULES = [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = unit(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "metarl_jax":
            other = parts[1]
            if other == own:
                # ANIL is MAML with another optimiser, HyperX VariBAD with a bonus.
                thin = (path.stem, name.rpartition(".")[2]) in THIN
                assert own in WITHIN or thin, f"no {own} imports another"
            else:
                lower = layer(other) < layer(own)
                same = layer(other) == layer(own) and own in WITHIN
                # Strategies are what some families' oracles are made of.
                assert lower or same, f"{own} imports {other}"
        elif own not in IMPURE:
            assert parts[0] not in {"os", "time", "pathlib", "orbax", "matplotlib"}, (
                f"{path.name} imports {name}: files and the clock are the rim's"
            )


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda p: p.stem)
def test_an_algorithm_runs_when_pasted(path):
    namespace = {"__name__": "pasted"}
    exec(compile(path.read_text(), path.name, "exec"), namespace)
    tasks = bernoulli_bandit(num_arms=2, horizon=3)
    policy = mlp_policy(tasks, hidden_sizes=(3,), value_head=True)
    if path.stem in ("rl2", "dpt", "ad", "amago"):
        policy = memory_policy(tasks, GRU(3))
    algorithm = namespace[path.stem](tasks, policy, num_tasks=2, num_episodes=2)
    assert isinstance(algorithm, MetaAlgorithm)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    new_state, info = jax.eval_shape(algorithm.step, jax.random.key(1), state)
    assert new_state == state
    assert info.skipped.dtype == bool


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda p: p.stem)
def test_an_algorithm_s_options_are_keywords_with_defaults(path):
    module = importlib.import_module(f"metarl_jax.algorithms.{path.stem}")
    parameters = inspect.signature(getattr(module, path.stem)).parameters.values()
    keyword = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
    positional = [p.name for p in parameters if p.kind not in keyword]
    assert positional == ["tasks", "policy"]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty for p in keywords)


def test_what_gymnax_draws_with_is_loaded_when_it_draws():
    code = """if True:
        import sys
        import metarl_jax.MODULE
        loaded = {"pandas", "seaborn", "matplotlib"} & set(sys.modules)
        assert "gymnax" in sys.modules and not loaded, loaded
        from gymnax.environments.misc import pong
        assert len(pong.sns.color_palette("cubehelix", 3)) == 3
        assert pong.colors.to_hex("red") == "#ff0000" and pong.plt.figure()
        import matplotlib.pyplot
        import seaborn
        assert matplotlib.pyplot.figure and matplotlib.colors.Colormap
        assert seaborn.__name__ == "seaborn" and seaborn.color_palette
    """
    for module in ("types", "envs.goals"):
        loads = code.replace("MODULE", module)
        subprocess.run([sys.executable, "-W", "error", "-c", loads], check=True)


def test_the_package_leaves_other_people_s_imports_alone():
    code = """if True:
        import sys
        before = list(sys.meta_path), list(sys.path_hooks), set(sys.modules)
        import metarl_jax
        assert (sys.meta_path, sys.path_hooks) == (before[0], before[1])
        new = {name.partition(".")[0] for name in set(sys.modules) - before[2]}
        assert new <= {"metarl_jax", *sys.stdlib_module_names}, new
    """
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
