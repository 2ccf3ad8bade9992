"""Other libraries' learners on held-out tasks, from scratch, beside a meta-learned one.

    pip install -e ".[peers,rllib]"
    python benchmarks/learners.py [--arms rl2 sb3-ppo …]

All meet the same held-out tasks, and one seed of each library's learner learns each of
them. They are measured alike: between their rounds, by 64 fresh episodes in one
compiled batch, which they do not learn from and which are not counted; those from
scratch then act by their mode, RL² draws its actions. The steps of RL² are those it
takes in the task; what it was meta-trained on is recorded apart. A learner is measured
in a process of its own; those already recorded are not run again, and `--arms`
without one runs none. Writes JSON, draws `docs/learners.png` and lays out the table of
`docs/learners.md`.
"""

# The libraries are extras.
# pyright: reportMissingImports=false

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from measuring import hardware, run_arms
from telling_apart import told_apart

import metarl_jax
from metarl_jax import rollout
from metarl_jax.envs.gymnasium_vector import as_gymnasium_vector
from metarl_jax.plotting import PALETTE
from metarl_jax.types import Task, TaskDistribution

OUTPUT = Path(__file__).parent / "results" / "learners.json"
FIGURE = Path(__file__).parent.parent / "docs" / "learners.png"
WORLD = "reacher"
NUM_TASKS, NUM_EVAL_EPISODES = 3, 64
SEED_OF_TASKS = 2026

# Of Stable-Baselines3: copies, steps, steps between measurements, and what differs
# from its defaults.
BUDGETS: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "PPO": (16, 30_720, 2_048, {"n_steps": 64, "batch_size": 256}),
    "SAC": (1, 3_000, 500, {}),
}
# Of RLlib: copies, iterations, and what differs.
NUM_COPIES, NUM_ITERATIONS = 20, 8
RLLIB = {
    **{"train_batch_size_per_learner": 2_000, "minibatch_size": 250},
    **{"num_epochs": 10, "lr": 3e-4, "gamma": 0.99},
}

Act = Callable[[np.ndarray], np.ndarray]  # of observations [N, ...]
Curve = list[tuple[int, float]]  # environment steps, mean return


def held_out(number: int) -> tuple[TaskDistribution, Task]:
    """Returns the family, and one of the tasks that all learners meet."""
    tasks = metarl_jax.make_experiment(WORLD, method="rl2").tasks
    keys = jax.random.split(jax.random.key(SEED_OF_TASKS), NUM_TASKS)
    return tasks, tasks.sample_heldout(keys[number])


def mean_return(act: Act, tasks: TaskDistribution, task: Task, seed: int) -> float:
    """Measures how an agent acts, in fresh episodes."""
    copies = as_gymnasium_vector(
        tasks,
        task,
        num_envs=NUM_EVAL_EPISODES,
        seed=10_000 + seed,
        autoreset_mode="SameStep",
    )
    obs, _ = copies.reset()
    alive, total = np.ones(NUM_EVAL_EPISODES, bool), 0.0
    for _ in range(tasks.horizon):
        obs, reward, terminated, truncated, _ = copies.step(act(obs))
        total += float(np.sum(reward[alive])) / NUM_EVAL_EPISODES
        alive &= ~(terminated | truncated)
    return total


def stable_baselines(
    name: str, tasks: TaskDistribution, task: Task, seed: int
) -> Curve:
    """Trains PPO in copies, or SAC in one, by the library's other defaults."""
    import stable_baselines3
    import torch
    from stable_baselines3.common.callbacks import BaseCallback

    from metarl_jax.envs.stable_baselines import as_stable_baselines

    torch.set_num_threads(1)
    num_envs, num_steps, every, options = BUDGETS[name]
    curve: Curve = []

    class Evaluate(BaseCallback):
        def _on_step(self):
            due = self.num_timesteps >= (len(curve) * every)
            if due:
                self.evaluate()
            return True

        def evaluate(self):
            def act(obs):
                return self.model.predict(obs, deterministic=True)[0]

            score = mean_return(act, tasks, task, seed)
            curve.append((self.num_timesteps, score))

    envs = as_stable_baselines(tasks, task, num_envs=num_envs, seed=seed)
    learner = getattr(stable_baselines3, name)(
        "MlpPolicy", envs, seed=seed, device="cpu", **options
    )
    callback = Evaluate()
    learner.learn(num_steps, callback=callback)
    if curve[-1][0] < num_steps:
        callback.evaluate()
    return curve


def rllib_ppo(make: Callable[[], tuple[TaskDistribution, Task]], seed: int) -> Curve:
    """Trains RLlib's PPO in this process, in one vector of compiled copies.

    What makes its copies is pickled, so that it makes the family as well.
    """
    import torch
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.columns import Columns
    from ray.tune.registry import register_env

    torch.set_num_threads(1)

    tasks, task = make()

    def copies(context):
        tasks, task = make()
        num_envs = context.get("num_envs", 1)
        return as_gymnasium_vector(tasks, task, num_envs=num_envs, seed=seed)

    register_env("held-out-task", copies)
    config = (
        PPOConfig()
        .environment("held-out-task")
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=NUM_COPIES,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(**RLLIB)
        .debugging(seed=seed, log_level="ERROR")
    )
    learner = config.build_algo()
    curve: Curve = []

    def act(obs):
        module: Any = learner.get_module()
        given = {Columns.OBS: torch.as_tensor(np.asarray(obs, np.float32))}
        with torch.no_grad():
            out = module.forward_inference(given)[Columns.ACTION_DIST_INPUTS]
        kind: Any = module.get_inference_action_dist_cls()
        action = kind.from_logits(out).to_deterministic().sample().numpy()
        low, high = tasks.action_space.low, tasks.action_space.high
        # RLlib learns in a space of [-1, 1] and scales what it gives.
        return low + (np.clip(action, -1, 1) + 1) / 2 * (high - low)

    steps = 0
    curve.append((steps, mean_return(act, tasks, task, seed)))
    for _ in range(NUM_ITERATIONS):
        found = learner.train()
        steps = int(found["env_runners"]["num_env_steps_sampled_lifetime"])
        curve.append((steps, mean_return(act, tasks, task, seed)))
    learner.stop()
    return curve


def meta_learned() -> dict[str, Any]:
    """Meta-trains RL² by its defaults in this world, and lets it act in the tasks."""
    experiment = metarl_jax.make_experiment(WORLD, method="rl2")
    tasks = experiment.tasks
    times: list[float] = []
    run = metarl_jax.train(
        experiment,
        quiet=True,
        callback=lambda step, info: times.append(time.process_time()),
    )
    num_episodes = dict(experiment.origin.options)["num_episodes"]

    @jax.jit
    def returns(key, agent, task):
        def trial(key):
            return rollout.episode_returns(
                rollout.collect(
                    key, tasks, run.policy, agent, task, num_episodes=num_episodes
                )[1]
            )

        keys = jax.random.split(key, NUM_EVAL_EPISODES)
        return jnp.mean(jax.vmap(trial)(keys), axis=0)

    steps = [tasks.horizon * (i + 1) for i in range(num_episodes)]
    curves = []
    for number in range(NUM_TASKS):
        _, task = held_out(number)
        found = returns(jax.random.key(number), run.agent, task).tolist()
        curves.append(list(zip(steps, found, strict=True)))
    given = dict(experiment.origin.options)
    each = given["num_tasks"] * num_episodes * tasks.horizon
    return {
        "curves": curves,
        "meta_training_steps": each * experiment.num_steps,
        "meta_training_cpu_seconds": times[-1] - times[0],
    }


LEARNERS = {
    "rl2": "RL², meta-learned",
    "sb3-ppo": "Stable-Baselines3 PPO",
    "sb3-sac": "Stable-Baselines3 SAC",
    "rllib-ppo": "RLlib PPO",
}


def measure(learner: str) -> dict[str, Any]:
    """Lets one learner learn every task."""
    if learner == "rl2":
        return {**meta_learned(), "hardware": hardware()}
    start, curves = time.process_time(), []
    for number in range(NUM_TASKS):
        if learner == "rllib-ppo":
            curves.append(rllib_ppo(partial(held_out, number), number))
        else:
            name = learner.removeprefix("sb3-").upper()
            curves.append(stable_baselines(name, *held_out(number), number))
    seconds = (time.process_time() - start) / NUM_TASKS
    return {"curves": curves, "cpu_seconds": seconds, "hardware": hardware()}


def draw(arms: dict[str, dict]) -> Figure:
    """Draws the returns against the steps in a task, each task thin."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for color, (learner, label) in zip(PALETTE, LEARNERS.items(), strict=False):
        if learner not in arms:
            continue
        curves = np.array(arms[learner]["curves"])  # [task, point, (steps, return)]
        steps, marker = curves[0, :, 0], "o" if learner == "rl2" else None
        steps = np.maximum(steps, 25)  # before the first step, on an axis of decades
        axes.plot(steps, curves[..., 1].T, color=color, lw=0.6, alpha=0.6)
        mean = curves[..., 1].mean(axis=0)
        axes.plot(steps, mean, color=color, lw=2, marker=marker, ms=5, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("environment steps in the held-out task")
    axes.set_ylabel(f"return of an episode of {WORLD}")
    axes.legend()
    return figure


def steps_to(curve: Curve, level: float) -> int | None:
    """Returns the steps before the first measurement at or above a level."""
    return next((steps for steps, score in curve if score >= level), None)


def table(arms: dict[str, dict]) -> str:
    """Lays out a learner a row."""
    tasks = range(1, 1 + len(next(iter(arms.values()))["curves"]))
    names = [f"task {number}" for number in tasks]
    lines = [
        f"| learner | steps in a task | {' | '.join(names)} | until RL²'s first return "
        "| CPU s a task |",
        "|---|---|" + "---|" * (2 + len(names)),
    ]
    levels = [curve[0][1] for curve in arms["rl2"]["curves"]] if "rl2" in arms else []
    for learner, label in LEARNERS.items():
        if learner not in arms:
            continue
        curves, reached = arms[learner]["curves"], ""
        if learner != "rl2" and levels:
            found = [steps_to(*pair) for pair in zip(curves, levels, strict=True)]
            reached = ", ".join(f"{x:,}" if x is not None else "never" for x in found)
        points = (0, -1) if learner == "rl2" else (-1,)
        seconds = arms[learner].get("cpu_seconds")
        for point in points:
            scores = " | ".join(f"{curve[point][1]:.1f}" for curve in curves)
            lines.append(
                f"| {label} | {curves[0][point][0]:,} | {scores} | {reached} | "
                f"{f'{seconds:.0f}' if seconds else ''} |"
            )
    return "\n".join(lines)


def laid_out(arms: dict[str, dict]) -> str:
    """Returns what the page shows of the arms: a table, and what it tells apart."""
    returns = {
        label.replace(",", ""): [curve[-1][1] for curve in arms[learner]["curves"]]
        for learner, label in LEARNERS.items()
        if learner in arms
    }
    told = told_apart(returns, same_tasks=True)
    return (
        f"{table(arms)}\n\nOf the last returns, task by task, with 95 % intervals over "
        f"the tasks after Holm's correction for all pairs: {told}. There is one run of "
        "each in a task: other runs may differ."
    )


def main() -> None:
    run_arms(
        __file__,
        LEARNERS,
        lambda learner, _: measure(learner),
        {"learners.py": laid_out},
        output=OUTPUT,
        page=FIGURE.with_suffix(".md"),
        draw=draw,
        figure=FIGURE,
    )


if __name__ == "__main__":
    main()
