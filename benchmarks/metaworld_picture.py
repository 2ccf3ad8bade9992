"""Draws classes of Meta-World, moved by its scripted policies, and times its steps.

    pip install -e ".[metaworld]"
    MUJOCO_GL=egl python benchmarks/metaworld_picture.py

Writes `docs/worlds/metaworld-ml1.png` and prints what a reset takes, and how many steps
are taken in a second of the CPU.
"""

# Meta-World is an extra.
# pyright: reportMissingImports=false

import time
from pathlib import Path

import metaworld
import numpy as np
from matplotlib.figure import Figure
from metaworld.policies import ENV_POLICY_MAP

from metarl_jax.plotting import write_png

FIGURE = Path(__file__).parent.parent / "docs" / "worlds" / "metaworld-ml1.png"
# Three classes of ML10's training, and one that is held out; steps until its moment.
MOMENTS = {"reach-v3": 40, "pick-place-v3": 60, "window-open-v3": 80}
HELD_OUT = {"door-close-v3": 70}
NUM_STEPS = 300


def picture(name: str, num_steps: int) -> np.ndarray:
    """Returns what a camera sees of the first training goal after some steps."""
    scene = metaworld.env_dict.ALL_V3_ENVIRONMENTS[name](render_mode="rgb_array")
    scene.set_task(metaworld.ML1(name, seed=0).train_tasks[0])
    scene._partially_observable = False  # the scripted policy sees the goal
    obs, _ = scene.reset()
    script = ENV_POLICY_MAP[name]()
    for _ in range(num_steps):
        obs, *_ = scene.step(np.clip(script.get_action(obs), -1, 1))
    seen = np.asarray(scene.render())
    scene.close()
    return seen


def main() -> None:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    every = {**MOMENTS, **HELD_OUT}
    for axes, (name, steps) in zip(figure.subplots(1, 4), every.items(), strict=True):
        axes.imshow(picture(name, steps))
        held = ", held out" if name in HELD_OUT else ""
        axes.set_title(name.removesuffix("-v3") + held, loc="left", fontsize=9)
        axes.axis("off")
    write_png(figure, FIGURE)
    scene = metaworld.env_dict.ALL_V3_ENVIRONMENTS["reach-v3"]()
    task = metaworld.ML1("reach-v3", seed=0).train_tasks[0]
    reset = 0.0
    for _ in range(2):  # the first one is not like others
        start = time.process_time()
        scene.set_task(task)
        scene.reset()
        reset = time.process_time() - start
    start = time.process_time()
    for _ in range(NUM_STEPS):
        scene.step(np.zeros(4))
    rate = NUM_STEPS / (time.process_time() - start)
    print(f"a reset takes {1000 * reset:.0f} ms; {rate:,.0f} steps/CPU s")


if __name__ == "__main__":
    main()
