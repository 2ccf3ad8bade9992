"""Which agents learn to drive, to find their way and to play: return and safety.

    python benchmarks/world_learning.py [--arms WORLD/AGENT …]

Every agent trains with its world's defaults, its seeds in one program, in a process of
its own, and meets held-out tasks by the one protocol; intervals are over seeds. An
agent `e-rl2` is RL² that leaves the first episode of a trial out of what it maximises;
`memoryless` is trained by the very updates of RL² on as many steps, and carries nothing
from one to the next; `told` is a policy without memory that is told the task. Drivers
meet tasks from beyond the ranges of their training as well. Seconds are those of the
CPU that a seed took, without compiling. Arms already recorded are not run again;
`--arms` without one runs none. Writes JSON, draws `docs/worlds/learning.png` and lays
out the tables of `docs/results/worlds.md`.
"""

import inspect
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, learn, mean_row, run_arms
from telling_apart import by_seed, lines

import metarl_jax
from metarl_jax import evaluation
from metarl_jax.choice import Choice
from metarl_jax.methods.rl2 import build as build_rl2
from metarl_jax.options import grouped
from metarl_jax.plotting import GREY, PALETTE
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.random import PersistentRandomPolicy
from metarl_jax.types import Agent, TaskDistribution

OUTPUT = Path(__file__).parent / "results" / "world_learning.json"
DOCS = Path(__file__).parent.parent / "docs"
FIGURE, PAGE = DOCS / "worlds" / "learning.png", DOCS / "results" / "worlds.md"
NUM_POINTS = 40
NOT_OPTIONS = ("tasks", "policy")
AGENTS = {
    "rl2": "RL²",
    "memoryless": "no memory",
    "varibad": "VariBAD",
    "maml": "MAML",
    "emaml": "E-MAML",
    "hyperx": "HyperX",
    "told": "told the task",
    "e-rl2": "E-RL²",
}


def steps(number: int) -> dict[str, Any]:
    """Returns how long is trained."""
    return {"num_steps": number, "decay_steps": number}


# By the world: options that differ from its defaults, or from these by the agent's
# name, and its agents.
ARMS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "driving": ({**steps(160), "maml": {"num_steps": 30}}, ["rl2", "maml", "told"]),
    "maze": ({**steps(450), "varibad": steps(600)}, ["rl2", "varibad"]),
    "minatar": (
        {
            **steps(75),
            **{"num_tasks": 32, "lr": 2e-3, "value_scale": 5.0},
            **{"restarts": True, "permuted_channels": False},
        },
        ["rl2", "memoryless", "told"],
    ),
    "xland": (
        {**steps(300), "num_tasks": 32, "num_rule_sets": 1000},
        ["rl2", "memoryless"],
    ),
    "metaworld-ml1": (
        {
            **{"task_name": "reach", "horizon": 150, "num_tasks": 40},
            **{"num_minibatches": 8, "num_epochs": 4, "value_scale": 200.0},
            **{"lr": 1e-3, "num_steps": 100},
        },
        ["rl2"],
    ),
    "krazy-world": (
        {
            **{**steps(90), "num_tasks": 64, "lr": 2e-3},
            **{name: {**steps(60), "num_tasks": 20} for name in ("maml", "emaml")},
            "hyperx": {
                **{"bonus_steps": 60, "novelty_coeff": 1.0, "error_coeff": 0.1},
                **{"novelty_hidden_sizes": (64, 64), "novelty_output_size": 16},
                **{"novelty_scale": 1.0, "novelty_lr": 3e-4, "entropy_coeff": 0.01},
                **{"num_epochs": 4, "clip_range": 0.2},
            },
        },
        ["rl2", "e-rl2", "maml", "emaml", "hyperx"],
    ),
}


class Forgetful(NamedTuple):
    """A policy without memory where one with a memory is asked for."""

    base: Any

    def init(self, key, memory, obs):
        """Draws the policy's parameters."""
        del memory
        return self.base.init(key, (), obs)

    def initial_memory(self):
        """A number that nothing reads or changes."""
        return jnp.zeros(())

    def apply(self, params, memory, obs):
        """Acts by what is seen alone."""
        distribution, value, _ = self.base.apply(params, (), obs)
        return distribution, value, memory


class ForgetfulMlp:
    """Makes the policy, as the settings of the command line do."""

    def make(self, tasks, trial_length, **kwargs):
        """Makes the policy for trials of any length."""
        del trial_length
        base = mlp_policy(tasks, hidden_sizes=(64, 64), value_head=True, **kwargs)
        return Forgetful(base)


def build(world: str, agent: str, **options: Any) -> metarl_jax.Experiment:
    """Builds what an arm trains; the options are those of the world."""
    if agent == "told":
        options |= {"show_task": True}
    if agent == "e-rl2":
        options |= {"num_exploration_episodes": 1}
    method = "rl2" if agent in ("memoryless", "told", "e-rl2") else agent
    known = inspect.signature(Choice(world, method).load()).parameters
    options |= options.pop(agent, {})
    options = {name: value for name, value in options.items() if name in known}
    experiment = metarl_jax.make_experiment(world, method=method, **options)
    if agent not in ("memoryless", "told"):
        return experiment
    # RL² again, of a policy that forgets.
    given = grouped(build_rl2, dict(experiment.origin.options), skip=NOT_OPTIONS)
    policy: Any = ForgetfulMlp()
    algorithm = build_rl2(experiment.tasks, policy, **given)
    return experiment._replace(algorithm=algorithm)


def uniform(tasks: TaskDistribution) -> dict[str, Any]:
    """Measures an agent that draws its actions uniformly, one episode a task."""
    policy: Any = PersistentRandomPolicy(tasks.action_space, persistence=0.0)
    key = jax.random.key(0)
    returns, told = jax.jit(
        lambda key: evaluation.evaluate_measures(
            key,
            tasks,
            policy,
            lambda key, agent, trajectories: agent,
            Agent((), policy.initial_memory()),
            num_tasks=400,
            num_episodes=1,
            num_adaptation_steps=0,
        )
    )(key)

    measures = {name: mean_row(values) for name, values in told.items()}
    return {**mean_row(returns), "measures": measures}


def told_of(result: dict[str, Any]) -> dict[str, Any]:
    """Returns what is recorded of an evaluation."""
    names = ("adaptation_unit", "return_mean", "return_ci", "return_mean_by_seed")
    names += ("interval", "num_tasks", "num_episodes", "measures", "references")
    kept = {name: result[name] for name in names}
    kept["references"] = {
        name: row["return_mean"] for name, row in kept["references"].items()
    }
    return kept


def measure(arm: str, num_seeds: int) -> dict[str, Any]:
    """Trains an arm and evaluates it."""
    world, _, agent = arm.partition("/")
    options = ARMS[world][0]
    experiment = build(world, agent, **options)
    trained, record = learn(experiment, num_seeds, num_points=NUM_POINTS)
    record |= {
        **told_of(metarl_jax.evaluate(trained)),
        "random": uniform(build(world, "rl2", **options).tasks),
        "hardware": hardware(),
    }
    if world == "driving":
        beyond = build(world, agent, heldout="outside", **options).tasks
        there = trained._replace(experiment=trained.experiment._replace(tasks=beyond))
        record["outside"] = told_of(metarl_jax.evaluate(there))
        record["random_outside"] = uniform(
            build(world, "rl2", heldout="outside", **options).tasks
        )
    return record


def draw(arms: dict[str, dict]) -> Figure:
    """Draws a world a row: return while learning, and by round on held-out tasks."""
    worlds = [w for w in ARMS if any(key.startswith(f"{w}/") for key in arms)]
    figure = Figure(figsize=(10, 3.1 * len(worlds)), layout="constrained")
    grid = figure.subplots(len(worlds), 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), world in zip(grid, worlds, strict=True):
        found = {a: arms[f"{world}/{a}"] for a in AGENTS if f"{world}/{a}" in arms}
        floor = next(iter(found.values()))["random"]["mean"]
        for axes in (left, right):
            axes.axhline(floor, color=GREY, lw=1, ls=":", label="random actions")
        for number, (agent, record) in enumerate(found.items()):
            look: dict[str, Any] = {"color": PALETTE[number]}
            seeds = np.array(record["curve"]["return_after"])
            at = np.array(record["curve"]["environment_steps"]) / 1e6
            left.plot(at, seeds.mean(axis=1), lw=1.8, label=AGENTS[agent], **look)
            left.plot(at, seeds, lw=0.5, alpha=0.6, **look)
            mean = np.array(record["return_mean"])
            low, high = np.transpose(record["return_ci"])
            rounds = np.arange(1, len(mean) + 1)
            error = np.stack([mean - low, high - mean])
            right.errorbar(rounds, mean, error, marker="o", ms=4, capsize=3, **look)
            right.set_xticks(range(1, len(mean) + 1))
        left.set_title(world, loc="left")
        left.set_ylabel("return of the last round")
        left.legend(fontsize=8)
        right.set_title("held-out tasks", loc="left", fontsize=10)
    grid[-1][0].set_xlabel("environment steps a seed, millions (thin: each seed)")
    grid[-1][1].set_xlabel("round of a trial (95 % interval over seeds)")
    return figure


def knowing(world: str, record: dict | None) -> list[str]:
    """Lays out what a family's own references get, which know the task."""
    own = ("random initialisation", "no adaptation")
    return [
        f"| {world} | {name}, which knows the task | {values[0]:.2f} | "
        f"{values[-1]:.2f} | | | |"
        for name, values in (record or {"references": {}})["references"].items()
        if name not in own
    ]


def table(arms: dict[str, dict]) -> str:
    """Lays out the arms as a markdown table."""
    lines = [
        "| world | agent | first round | last round (95 % interval) | seeds | "
        "million steps | CPU s a seed |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(world, agent, record, found):
        low, high = found["return_ci"][-1]
        return (
            f"| {world} | {agent} | {found['return_mean'][0]:.2f} | "
            f"{found['return_mean'][-1]:.2f} ({low:.2f} to {high:.2f}) | "
            f"{record['num_seeds']} | {record['environment_steps'] / 1e6:.2f} | "
            f"{record['cpu_seconds']:.0f} |"
        )

    for world in ARMS:
        found = {a: arms[f"{world}/{a}"] for a in AGENTS if f"{world}/{a}" in arms}
        for number, (agent, record) in enumerate(found.items()):
            if number == 0:
                floors = {"": "random"}
                floors |= {", outside": "random_outside"} if "outside" in record else {}
                for label, key in floors.items():
                    mean, half = record[key]["mean"], record[key]["half_width"]
                    lines.append(
                        f"| {world}{label} | random actions | {mean:.2f} "
                        f"({mean - half:.2f} to {mean + half:.2f}) | | | | |"
                    )
                for label, told in {
                    "": record,
                    ", outside": record.get("outside"),
                }.items():
                    lines += knowing(f"{world}{label}", told)
            lines.append(row(world, AGENTS[agent], record, record))
            if "outside" in record:
                outside = row(
                    f"{world}, outside", AGENTS[agent], record, record["outside"]
                )
                lines.append(outside)
    return "\n".join(lines)


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows of returns: a table, and what it tells apart."""
    worlds: dict[str, dict[str, list[float]]] = {}
    for world in ARMS:
        for agent, label in AGENTS.items():
            if record := arms.get(f"{world}/{agent}"):
                worlds.setdefault(world, {})[label] = by_seed(record)
                if outside := record.get("outside"):
                    where = worlds.setdefault(f"{world}, outside", {})
                    where[label] = by_seed(outside)
    return f"{table(arms)}\n\n{lines(worlds, digits=2)}"


def safety(arms: dict[str, dict]) -> str:
    """Lays out what is told of drivers beside the return, last round and first."""
    drivers = {a: arms[f"driving/{a}"] for a in AGENTS if f"driving/{a}" in arms}
    if not drivers:
        return ""
    names = list(next(iter(drivers.values()))["measures"])
    lines = ["| tasks | agent | " + " | ".join(names) + " |"]
    lines.append("|---" * (2 + len(names)) + "|")
    some = next(iter(drivers.values()))
    for where, floor in (("within", "random"), ("beyond", "random_outside")):
        cells = [f"{some[floor]['measures'][name]['mean']:.3g}" for name in names]
        lines.append(f"| {where} | random actions | " + " | ".join(cells) + " |")
        for agent, record in drivers.items():
            found = record if where == "within" else record["outside"]
            cells = []
            for name in names:
                first, *_, last = found["measures"][name]["mean"]
                cells.append(f"{first:.3g} → {last:.3g}")
            lines.append(f"| {where} | {AGENTS[agent]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    run_arms(
        __file__,
        [f"{world}/{one}" for world, (_, names) in ARMS.items() for one in names],
        measure,
        {"world_learning.py": laid_out, "world_learning.py, safety": safety},
        output=OUTPUT,
        page=PAGE,
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
