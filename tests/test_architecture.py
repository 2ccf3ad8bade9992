"""What holds of every file: imports point one way, and algorithms can be pasted."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
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
    {"spaces"},
    {"types"},
    {"distributions", "returns", "updates"},
    {"validation"},
    {"surrogates", "trust_region"},
    {"aggregation", "batching", "policy_gradient"},
    {"inner_loop", "replay_buffer", "soft_actor_critic"},
    {"policies", "envs", "strategies"},
    {"rollout", "outer_loop"},
    {"trials"},
    {"algorithms"},
    {"evaluation"},
    {"sample_efficiency"},
    {"runs"},
    {"training", "plotting"},
    {"experiments"},
    {"reproduction", "sweeps"},
    {"cli"},
]
WITHIN = {
    *("policies", "envs", "strategies", "runs", "training", "experiments"),
    *("reproduction", "sweeps", "cli"),
}
IMPURE = {"runs", "training", "plotting", "experiments"}
IMPURE |= {"reproduction", "sweeps", "cli"}


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
                assert own in WITHIN, f"no {own} imports another"
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
    policy = mlp_policy(tasks, hidden_sizes=(3,))
    if path.stem == "rl2":
        policy = memory_policy(tasks, GRU(3))
    algorithm = namespace[path.stem](tasks, policy, num_tasks=2, num_episodes=2)
    assert isinstance(algorithm, MetaAlgorithm)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    new_state, info = jax.jit(algorithm.step)(jax.random.key(1), state)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(info))
    assert not info.skipped


@pytest.mark.parametrize("path", ALGORITHMS, ids=lambda p: p.stem)
def test_an_algorithm_s_options_are_keywords_with_defaults(path):
    module = importlib.import_module(f"metarl_jax.algorithms.{path.stem}")
    parameters = inspect.signature(getattr(module, path.stem)).parameters.values()
    positional = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert positional == ["tasks", "policy"]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty for p in keywords)


def test_starting_loads_nothing_to_draw_with_until_it_is_used():
    code = """if True:
        import sys
        import metarl_jax, gymnax
        assert not {"pandas", "scipy.stats", "matplotlib.figure"} & set(sys.modules)
        import seaborn
        import matplotlib.pyplot as plt
        assert plt.__loader__ is plt.__spec__.loader
        assert len(seaborn.color_palette()) == 10
        assert plt.figure().axes == []
    """
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
