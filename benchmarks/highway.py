"""Drives highway-env's road by hand-written drivers: return, collisions, speed.

    pip install -e ".[driving]"
    python benchmarks/highway.py

All meet the same held-out tasks, an episode each, by the one protocol; intervals are
over tasks. Writes JSON, draws `docs/worlds/highway.png` and prints a markdown table.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from measuring import hardware, mean_row, picture, write

from metarl_jax import evaluation
from metarl_jax.distributions import Categorical
from metarl_jax.envs.highway import DRIVERS, SPEED_UNIT, HighwayTask, configuration
from metarl_jax.envs.highway import highway as family
from metarl_jax.plotting import GREY, PALETTE
from metarl_jax.types import Agent

OUTPUT = Path(__file__).parent / "results" / "highway.json"
FIGURE = Path(__file__).parent.parent / "docs" / "worlds" / "highway.png"
NOTHING, FASTER, SLOWER = 1, 3, 4
PLACE_UNIT = 200.0  # metres, that an observed distance of 1 stands for
LANE, BEHIND, AHEAD = 4.0, -40.0, 120.0  # metres
SAME_LANE = 0.1  # of the lanes' total width


def careful(obs: jax.Array) -> jax.Array:
    """Keeps its lane and two seconds behind whoever is ahead. `[5, 5]` to `[5]`."""
    there, along, across, closing, _ = obs[1:].T
    ahead = (there > 0) & (along > 0) & (jnp.abs(across) < SAME_LANE)
    gap = jnp.min(jnp.where(ahead, PLACE_UNIT * along, jnp.inf))
    approaching = jnp.any(ahead & (closing < 0) & (PLACE_UNIT * along == gap))
    wanted = 2.0 * SPEED_UNIT * obs[0, 3]
    act = jnp.where(gap > 1.5 * wanted, FASTER, NOTHING)
    act = jnp.where((gap < wanted) & approaching, SLOWER, act)
    return jax.nn.one_hot(act, 5)


DRIVEN_BY = {
    "random actions": lambda obs: jnp.full(5, 0.2),
    "keeps lane and speed": lambda obs: jax.nn.one_hot(NOTHING, 5),
    "always faster": lambda obs: jax.nn.one_hot(FASTER, 5),
    "keeps lane and distance": careful,
}


class Driver(NamedTuple):
    """A policy without parameters."""

    probabilities: Any

    def init(self, key, memory, obs):
        """Has no parameters."""
        del key, memory, obs
        return ()

    def initial_memory(self):
        """Remembers nothing."""
        return ()

    def apply(self, params, memory, obs):
        """Acts by what is seen."""
        del params
        probabilities = self.probabilities(obs.reshape(5, 5))
        return Categorical(jnp.log(probabilities + 1e-9)), jnp.zeros(()), memory


def measure(driver: str, num_tasks: int) -> dict[str, Any]:
    """Lets one drive."""
    tasks = family()
    start = time.process_time()
    returns, told = jax.jit(
        lambda key: evaluation.evaluate_measures(
            key,
            tasks,
            Driver(DRIVEN_BY[driver]),
            lambda key, agent, trajectories: agent,
            Agent(()),
            num_tasks=num_tasks,
            num_episodes=1,
            num_adaptation_steps=0,
        )
    )(jax.random.key(0))
    tasks.env.close()  # pyright: ignore
    rows = {name: mean_row(x) for name, x in {"return": returns, **told}.items()}
    return {**rows, "cpu_seconds": time.process_time() - start}


def draw_road(axes: Any, road: Any, own: Any, lanes: int) -> None:
    """Draws the cars around one's own, with their speeds in metres per second."""
    for edge in range(lanes + 1):
        style = "-" if edge in (0, lanes) else "--"
        axes.axhline(LANE * (edge - 0.5), color=GREY, lw=1, ls=style)
    for car in road.vehicles:
        x, y = car.position - [own.position[0], 0.0]
        if not BEHIND < x < AHEAD:
            continue
        color = PALETTE[1] if car is own else PALETTE[0]
        corner = x - car.LENGTH / 2, y - car.WIDTH / 2
        axes.add_patch(Rectangle(corner, car.LENGTH, car.WIDTH, color=color))
        speed = f"{car.speed:.0f}"
        axes.text(x, y, speed, ha="center", va="center", color="white", fontsize=6)
    axes.set(xlim=(BEHIND, AHEAD), ylim=(LANE * lanes, -LANE), aspect="equal")
    axes.axis("off")


def draw() -> Figure:
    """Draws three tasks' roads after some seconds."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    rows = zip(figure.subplots(3, 1), (2, 3, 4), (0.5, 1.0, 1.5), DRIVERS, strict=True)
    for number, (axes, lanes, density, drivers) in enumerate(rows):
        task = HighwayTask(*map(jnp.asarray, (lanes, density, number, 0.1)))
        env: Any = gymnasium.make("highway-fast-v0", config=configuration(task))
        env.reset(seed=number)
        for _ in range(6):
            env.step(NOTHING)
        draw_road(axes, env.unwrapped.road, env.unwrapped.vehicle, lanes)
        axes.set_title(
            f"{lanes} lanes, density {density}, {drivers}", loc="left", fontsize=9
        )
        env.close()
    return figure


def table(record: dict[str, Any]) -> str:
    """Lays out a driver a row."""
    names = ("return", "collisions", "speed (m/s)")
    lines = ["| driver | " + " | ".join(names) + " |", "|---" * (1 + len(names)) + "|"]
    for driver, row in record["drivers"].items():
        cells = [
            f"{row[name]['mean']:.2f} ± {row[name]['half_width']:.2f}" for name in names
        ]
        lines.append(f"| {driver} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Drives highway-env's road.")
    parser.add_argument("--num-tasks", type=int, default=60)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    args = parser.parse_args()
    drivers = {name: measure(name, args.num_tasks) for name in DRIVEN_BY}
    record = {"num_tasks": args.num_tasks, "drivers": drivers, "hardware": hardware()}
    write(args.output, record)
    picture(draw, FIGURE if args.output == OUTPUT else args.output.with_suffix(".png"))
    print(table(record))


if __name__ == "__main__":
    main()
