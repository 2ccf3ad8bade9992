"""Compares how many steps of interaction learners need on unseen CartPoles.

    pip install -e ".[peers]"
    python benchmarks/cartpole_transfer.py

On the same held-out tasks of `cartpole-transfer`, whose wires may be crossed: the
initialisation that MAML learned, adapted by its own rule; a policy pretrained on all
tasks by PPO and fine-tuned; that PPO from scratch; and the PPO of Stable-Baselines3
from scratch, through Gymnasium.

All are measured alike. A learner acts, learns, and is evaluated on fresh episodes with
sampled actions, which it does not learn from and which are not counted: before the
first step and after every round of episodes, Stable-Baselines3 after every rollout. The
steps to a return are those taken before the first evaluation at or above it.

Writes JSON and a figure and prints a table. What was trained and measured is kept in
`--work-dir`, so that the command goes on where it was interrupted.
"""
# Stable-Baselines3 is an extra.
# pyright: reportMissingImports=false

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import hardware, picture, write

from metarl_jax import plotting, rollout
from metarl_jax.algorithms.pretraining import pretraining
from metarl_jax.envs.gymnasium_bridge import as_gymnasium
from metarl_jax.evaluation import heldout_tasks
from metarl_jax.experiments.cartpole_transfer import cartpole_transfer
from metarl_jax.intervals import interquartile_mean, summarise
from metarl_jax.runs import files, history
from metarl_jax.sample_efficiency import (
    LearningCurve,
    learning_curve,
    returns_at,
    steps_to_return,
)
from metarl_jax.training import Experiment, train
from metarl_jax.types import Agent, MetaAlgorithm, Task, TaskDistribution

ROOT = Path(__file__).parent.parent
WORK_DIR = ROOT / "runs" / "cartpole-transfer"
OUTPUT = ROOT / "benchmarks" / "results" / "cartpole-transfer.json"
FIGURE = ROOT / "docs" / "cartpole_transfer.png"
LEVEL = 450.0
NUM_TASKS, NUM_EVAL_EPISODES = 20, 20
NUM_TASKS_OF_OTHERS = 1  # for other settings of Stable-Baselines3
MAML, PRETRAINED, SCRATCH, PEER = (
    "MAML, adapted",
    "pretrained, fine-tuned",
    "PPO from scratch",
    "Stable-Baselines3 PPO from scratch",
)
NUM_SEEDS = {MAML: 3, PRETRAINED: 1, SCRATCH: 1}
# Of a round: MAML's as in meta-training; on other tasks PPO did as well with 5 as 10.
NUM_EPISODES = {MAML: 10, PRETRAINED: 5, SCRATCH: 5}
NUM_ROUNDS = {MAML: 10, PRETRAINED: 60, SCRATCH: 120}
EPISODES_OF_A_STEP = 20 * 10  # in meta-training, before adapting or after
PEER_LEAST_STEPS, PEER_MOST_STEPS = 20_480, 100_000
KEY_TASKS = jax.random.key(2026)

Learner = Callable[[int, int], LearningCurve]  # of a seed and the number of a task


# What differs from the defaults of Stable-Baselines3: usual settings for CartPole, and
# nothing.
PEER_SETTINGS: dict[str, dict[str, Any]] = {
    PEER: {
        "learning_rate": 1e-3,
        "gamma": 0.99,
        "ent_coef": 0.0,
        "clip_range": 0.2,
        "batch_size": 64,
    },
    f"{PEER}, default settings": {},
}


def our_learner(
    tasks: TaskDistribution,
    algorithm: MetaAlgorithm,
    agent_of: Callable[[int, int], Agent],
    *,
    num_rounds: int,
    num_episodes: int,
) -> Learner:
    """Makes a learner of an algorithm's `adapt` and of the agents it starts from."""

    @jax.jit
    def curve(key, agent, task):
        return learning_curve(
            key,
            tasks,
            algorithm.policy,
            algorithm.adapt,
            agent,
            task,
            num_rounds=num_rounds,
            num_episodes=num_episodes,
            num_eval_episodes=NUM_EVAL_EPISODES,
        )

    def learn(seed, number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        return curve(key, agent_of(seed, number), task_number(tasks, number))

    return learn


def peer_learner(tasks: TaskDistribution, setting: str) -> Learner:
    """Makes a learner of Stable-Baselines3, which learns until it reaches the level.

    Its weights are evaluated in our network of the same shape, by our rollout, so that
    what is measured is the same for all learners.
    """
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback

    torch.set_num_threads(1)
    policy = cartpole_transfer().algorithm.policy
    least_steps = PEER_LEAST_STEPS if setting == PEER else 0

    def params(model):
        """Names and lays out the weights as `MLPPolicy` does."""
        first, _, second, _ = model.policy.mlp_extractor.policy_net
        layers = {"hidden_0": first, "hidden_1": second}
        layers["logits"] = model.policy.action_net
        return {
            "params": {
                name: {
                    "kernel": layer.weight.detach().numpy().T.copy(),
                    "bias": layer.bias.detach().numpy().copy(),
                }
                for name, layer in layers.items()
            }
        }

    def check_same_policy(model):
        obs = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
        theirs = model.policy.get_distribution(torch.as_tensor(obs)).distribution
        ours, _, _ = policy.apply(params(model), (), obs)
        np.testing.assert_allclose(
            jax.nn.softmax(ours.logits), theirs.probs.detach().numpy(), rtol=1e-4
        )

    @jax.jit
    def mean_return(key, params, task):
        _, trajectories = rollout.collect(
            key, tasks, policy, Agent(params), task, num_episodes=NUM_EVAL_EPISODES
        )
        return jnp.mean(rollout.episode_returns(trajectories))

    class Evaluate(BaseCallback):
        """Evaluates before each rollout; ends training where there is enough."""

        def __init__(self, key, task):
            super().__init__()
            self.key, self.task = key, task
            self.curve = LearningCurve([], [])

        def _on_rollout_start(self):
            key = jax.random.fold_in(self.key, self.num_timesteps)
            self.curve.steps.append(self.num_timesteps)
            score = mean_return(key, params(self.model), self.task)
            self.curve.returns.append(float(score))

        def _on_step(self):
            reached = any(score >= LEVEL for score in self.curve.returns)
            return not (reached and self.curve.steps[-1] >= least_steps)

    def learn(seed, number):
        seed = seed * NUM_TASKS + number
        task = task_number(tasks, number)
        model = PPO(
            "MlpPolicy",
            as_gymnasium(tasks, task, seed=seed),
            seed=seed,
            device="cpu",
            **PEER_SETTINGS[setting],
        )
        callback = Evaluate(jax.random.key(seed), task)
        model.learn(PEER_MOST_STEPS, callback=callback)
        check_same_policy(model)
        return callback.curve

    return learn


def task_number(tasks: TaskDistribution, number: int) -> Task:
    """Returns one of the held-out tasks, the same for all learners."""
    batch = heldout_tasks(KEY_TASKS, tasks, num_tasks=NUM_TASKS)
    return jax.tree.map(lambda x: x[number], batch)


def meta_train(
    experiment: Experiment, work_dir: Path, *, num_seeds: int
) -> list[Agent]:
    """Meta-trains with each seed, unless that was done."""
    agents = []
    for seed in range(num_seeds):
        run_dir = work_dir / f"seed-{seed}"
        there = run_dir.exists()
        state = train(
            experiment,
            name=work_dir.name,
            seed=seed,
            output_dir=None if there else run_dir,
            resume=run_dir if there else None,
            quiet=True,
        ).state
        assert state is not None
        agents.append(state.agent)
    return agents


def meta_training_steps(work_dir: Path, *fields: str, num_seeds: int) -> list[float]:
    """Returns each seed's steps of interaction, from the returns it recorded.

    The reward is 1 a step, so that an episode's return is its length.
    """
    runs = [history.read(work_dir / f"seed-{s}") for s in range(num_seeds)]
    return [
        EPISODES_OF_A_STEP * sum(row[field] for row in rows for field in fields)
        for rows in runs
    ]


def measure(
    path: Path,
    learner: Learner,
    *,
    settings: Any,
    num_seeds: int = 1,
    num_tasks: int = NUM_TASKS,
) -> list[list[LearningCurve]]:
    """Measures a learner, seeds × tasks; goes on where it left off.

    Curves that were kept of other settings are measured again.
    """
    settings = files.jsonable(settings)
    kept = json.loads(path.read_text()) if path.exists() else {}
    done = kept["curves"] if kept.get("settings") == settings else []
    for i in range(len(done), num_seeds * num_tasks):
        curve = learner(*divmod(i, num_tasks))
        done.append([np.asarray(x).tolist() for x in curve])
        write(path, {"settings": settings, "curves": done})
        steps = steps_to_return(LearningCurve(*done[-1]), level=LEVEL)
        print(f"{path.stem}, run {i}: {LEVEL:g} after {steps:,.0f} steps", flush=True)
    curves = [LearningCurve(*curve) for curve in done]
    return [curves[s * num_tasks : (s + 1) * num_tasks] for s in range(num_seeds)]


def measure_ours(work_dir: Path) -> dict[str, list[list[LearningCurve]]]:
    """Meta-trains and measures what is learned by our own algorithms."""
    experiment = cartpole_transfer()
    tasks, maml = experiment.tasks, experiment.algorithm
    ppo = pretraining(
        tasks,
        maml.policy,
        num_episodes=10,
        num_epochs=4,
        outer_optimizer=optax.adam(1e-3),
        inner_optimizer=optax.adam(1e-3),
        gae_lambda=1.0,
    )
    pretraining_experiment = experiment._replace(algorithm=ppo, num_steps=100)
    agents = {
        MAML: meta_train(experiment, work_dir / "maml", num_seeds=NUM_SEEDS[MAML]),
        PRETRAINED: meta_train(
            pretraining_experiment,
            work_dir / "pretrained",
            num_seeds=NUM_SEEDS[PRETRAINED],
        ),
    }

    trained = {
        MAML: experiment.num_steps,
        PRETRAINED: pretraining_experiment.num_steps,
    }

    def newborn(seed, number):
        return ppo.init(jax.random.fold_in(jax.random.key(seed), number)).agent

    learners = {
        MAML: (maml, lambda seed, number: agents[MAML][seed]),
        PRETRAINED: (ppo, lambda seed, number: agents[PRETRAINED][seed]),
        SCRATCH: (ppo, newborn),
    }
    return {
        name: measure(
            work_dir / f"{name}.json",
            our_learner(
                tasks,
                algorithm,
                agent_of,
                num_rounds=NUM_ROUNDS[name],
                num_episodes=NUM_EPISODES[name],
            ),
            num_seeds=NUM_SEEDS[name],
            settings={
                "num_steps": trained.get(name, 0),
                "num_rounds": NUM_ROUNDS[name],
                "num_episodes": NUM_EPISODES[name],
            },
        )
        for name, (algorithm, agent_of) in learners.items()
    }


def measure_peers(work_dir: Path) -> dict[str, list[list[LearningCurve]]]:
    """Measures Stable-Baselines3 with each of its settings."""
    tasks = cartpole_transfer().tasks
    return {
        name: measure(
            work_dir / f"{name}.json",
            peer_learner(tasks, name),
            num_tasks=NUM_TASKS if name == PEER else NUM_TASKS_OF_OTHERS,
            settings={"least": PEER_LEAST_STEPS, "most": PEER_MOST_STEPS},
        )
        for name in PEER_SETTINGS
    }


def described(curves: list[list[LearningCurve]], grid: np.ndarray) -> dict[str, Any]:
    """Summarises a learner's curves, `[S, N]`."""
    steps = np.array(
        [[steps_to_return(c, level=LEVEL) for c in of_seed] for of_seed in curves]
    )
    returns = np.array([[returns_at(c, grid) for c in of_seed] for of_seed in curves])
    measured = np.isfinite(returns).all(axis=(0, 1))
    summary = summarise(returns[..., measured], shared_tasks=True)

    def on_grid(values):
        return values.tolist() + [None] * int(np.sum(~measured))

    interval = np.stack([summary.ci_low, summary.ci_high], -1).tolist()
    return {
        "steps_to_level": [[finite(x) for x in of_seed] for of_seed in steps],
        "median": finite(np.median(steps)),
        "iqm": finite(interquartile_mean(steps.ravel())),
        "nine_in_ten": finite(np.quantile(steps, 0.9, method="higher")),
        "median_by_seed": [finite(np.median(of_seed)) for of_seed in steps],
        "reached": float(np.mean(np.isfinite(steps))),
        "last_steps": [[c.steps[-1] for c in of_seed] for of_seed in curves],
        "return_mean": on_grid(summary.mean),
        "return_ci": interval + [[None, None]] * int(np.sum(~measured)),
    }


def times_fewer(fast: dict[str, Any], slow: dict[str, Any]) -> dict[str, Any]:
    """Compares the steps of two learners task by task, every seed with every seed.

    A slow learner that never reached the level is taken at its last step, and a fast
    one as never: both make the ratio smaller than it is. No step at all counts as one.
    The interval is a percentile bootstrap of the median over tasks, of these seeds.
    """
    num_tasks = len(slow["steps_to_level"][0])
    steps = np.array(fast["steps_to_level"], float)[:, None, :num_tasks]
    steps = np.where(np.isnan(steps), np.inf, steps)
    others = np.array(slow["steps_to_level"], float)
    others = np.where(np.isnan(others), np.array(slow["last_steps"], float), others)
    ratio = np.maximum(others[None], 1) / np.maximum(steps, 1)  # [S, S', N]
    drawn = np.random.default_rng(0).integers(num_tasks, size=(2000, num_tasks))
    medians = np.median(ratio[..., drawn], axis=(0, 1, 3))
    return {
        "median": float(np.median(ratio)),
        "ci": np.quantile(medians, [0.025, 0.975]).tolist(),
        "iqm": float(interquartile_mean(ratio.ravel())),
        "least": float(np.min(ratio)),
    }


def finite(x: Any) -> float | None:
    """Returns what JSON can hold: never is None."""
    return float(x) if np.isfinite(x) else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares learners on new CartPoles.")
    parser.add_argument("--work-dir", type=Path, default=WORK_DIR)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    args = parser.parse_args()
    work_dir = args.work_dir
    curves = measure_ours(work_dir) | measure_peers(work_dir)

    grid = np.geomspace(20, 50_000, 100)
    learners = {name: described(curves[name], grid) for name in curves}
    record = {
        "command": " ".join(["python benchmarks/cartpole_transfer.py", *sys.argv[1:]]),
        "hardware": hardware(),
        "level": LEVEL,
        "interval": "95 % interval over tasks, and over seeds where there are several",
        "num_tasks": NUM_TASKS,
        "num_seeds": NUM_SEEDS,
        "num_episodes": NUM_EPISODES,
        "num_rounds": NUM_ROUNDS,
        "num_eval_episodes": NUM_EVAL_EPISODES,
        "meta_training_steps": {
            MAML: meta_training_steps(
                work_dir / "maml",
                "return_before",
                "return_after",
                num_seeds=NUM_SEEDS[MAML],
            ),
            PRETRAINED: meta_training_steps(
                work_dir / "pretrained",
                "return_before",
                num_seeds=NUM_SEEDS[PRETRAINED],
            ),
        },
        "times_fewer_steps_of_maml": {
            name: times_fewer(learners[MAML], learners[name])
            for name in learners
            if name != MAML
        },
        "steps": grid.tolist(),
        "learners": learners,
    }
    write(args.output, record)
    drawn = {name: learners[name] for name in (MAML, PRETRAINED, SCRATCH, PEER)}
    picture(
        lambda: plotting.sample_efficiency({**record, "learners": drawn}), args.figure
    )

    print(f"| steps to {LEVEL:g} | median | IQM | 90 % | reached | times MAML's |")
    print("|---|---|---|---|---|---|")
    for name, row in learners.items():
        cells = [name]
        for field in ("median", "iqm", "nine_in_ten"):
            cells.append("never" if row[field] is None else f"{row[field]:,.0f}")
        cells.append(f"{row['reached']:.0%}")
        compared = record["times_fewer_steps_of_maml"].get(name)
        if compared:
            low, high = compared["ci"]
            cells.append(f"{compared['median']:.0f} ({low:.0f} to {high:.0f})")
        else:
            cells.append("1")
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
