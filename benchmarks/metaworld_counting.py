"""Counts successes as Meta-World's evaluation does and as ours: the same agent, once.

    pip install -e ".[metaworld]"
    python benchmarks/metaworld_counting.py

The agent is told the goal of `reach`, and in half of its episodes, by a coin, it goes
there straight; in the others it stands still. It succeeds in half of its episodes. One
that always goes is the measure of those that have to find the goal out.
Meta-World's evaluation ends an episode on success and takes the first three that finish
among several copies; ours plays a number of episodes for each goal that is fixed
beforehand, all of them to the end. Writes JSON.
"""

# Meta-World is an extra.
# pyright: reportMissingImports=false

import argparse
from pathlib import Path
from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from measuring import hardware, write

from metarl_jax.envs.metaworld import Arm, MetaWorldTask

OUTPUT = Path(__file__).parent / "results" / "metaworld_counting.json"
NAME = "reach-v3"
NUM_COPIES, NUM_EVALUATIONS = 10, 10
ENOUGH = 150  # steps after which who has not arrived stands still


def towards(hand: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Moves as Meta-World's scripted policy for the task does."""
    return np.clip([*(10.0 * (goal - hand)), 0.0], -1.0, 1.0).astype(np.float32)


class Sometimes:
    """The agent, as Meta-World's evaluation asks for one."""

    def __init__(self, goals: Any, rng: np.random.Generator):
        self.goals, self.rng = goals, rng
        self.goes = np.zeros(NUM_COPIES, bool)

    def reset(self, env_mask):
        """Throws a coin where an episode begins."""
        coins = self.rng.random(NUM_COPIES) < 0.5
        self.goes = np.where(env_mask, coins, self.goes)

    def eval_action(self, observations):
        """Goes to the goal, or not."""
        goals = self.goals()
        return np.stack(
            [
                towards(obs[:3], goal) if goes else np.zeros(4, np.float32)
                for obs, goal, goes in zip(observations, goals, self.goes, strict=True)
            ]
        )


def theirs(seed: int) -> list[float]:
    """Returns the share of successes of each of their evaluations."""
    from metaworld.evaluation import evaluation

    envs: Any = gymnasium.make_vec(
        "Meta-World/ML1-test", env_name=NAME, seed=seed, meta_batch_size=NUM_COPIES
    )
    envs.call("toggle_sample_tasks_on_reset", False)
    agent = Sometimes(lambda: envs.get_attr("_target_pos"), np.random.default_rng(seed))
    shares = []
    for _ in range(NUM_EVALUATIONS):
        envs.call("sample_tasks")
        shares.append(evaluation(agent, envs, num_episodes=3)[0])
    envs.close()
    return shares


def ours(seed: int, chance: float) -> tuple[float, float]:
    """Returns successes and return, one episode of each of the fifty test goals."""
    rng, arm = np.random.default_rng(seed), Arm((NAME,), {NAME: []})
    hits, returns = [], []
    for goal in range(50):
        arm.put(MetaWorldTask(*map(jnp.int32, (0, goal, 1))))
        obs, goes = arm.reset(seed=0)[0], rng.random() < chance
        hit, total = False, 0.0
        for _ in range(ENOUGH):
            aim = arm.scene._target_pos  # pyright: ignore
            action = towards(obs[:3], aim) if goes else np.zeros(4, np.float32)
            obs, reward, *_ = arm.step(action)
            hit, total = hit or bool(obs[-1]), total + float(reward)
        hits.append(hit)
        returns.append(total)
    arm.close()
    return float(np.mean(hits)), float(np.mean(returns))


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts successes in two ways.")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    shares = theirs(0)
    record = {
        "by the first three that finish": float(np.mean(shares)),
        "each evaluation of theirs": shares,
        "by a fixed number for each goal": ours(0, 0.5)[0],
        "always": dict(zip(("success", "return"), ours(0, 1.0), strict=True)),
        "hardware": hardware(),
    }
    write(args.output, record)
    print(record)


if __name__ == "__main__":
    main()
