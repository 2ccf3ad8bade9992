"""Exploration: where an agent goes in its first episodes and in its last."""

from typing import Any

import jax
import numpy as np

from metarl_jax.inspection.looking import Look

NUM_BINS = 25


def visits(look: Look) -> dict[str, Any] | None:
    """Counts where the agent is in the first round and in the last, over all tasks.

    On a grid the cells, where observations are positions in the plane squares of it.

    Returns:
      `edges_x` and `edges_y` of the bins; `first` and `last`, shares of the steps by
      (x, y); `visited`, of both rounds, how many different bins an episode sees on
      average; `bins` there are; `at_goal`, of both, the share of steps that end within
      a cell, or a hundredth of the plane's width, of the goal, None where no goal is
      known; `rounds`, what the two are called; `said`. None in other worlds.
    """
    placed = _places(look)
    if placed is None:
        return None
    places, goals, edges = placed
    masks = look.rounds.mask
    rounds = (0, look.rounds.mask.shape[1] - 1)
    counted = [_counts(places[:, k], masks[:, k], edges) for k in rounds]
    at_goal = None
    if goals is not None:
        grid = _grid_size(look) is not None
        near = 0.5 if grid else 0.05 * float(np.ptp(edges[0]))
        distance = np.linalg.norm(places - goals[:, None, None, None], axis=-1)
        at_goal = [float(np.mean(distance[:, k][masks[:, k]] < near)) for k in rounds]
    names = ("first", "last")
    if look.experiment.adaptation_unit == "adaptation steps":
        last = look.protocol.num_adaptation_steps
        names = ("before adaptation", f"after {last} adaptation steps")
    found = {
        "edges_x": edges[0],
        "edges_y": edges[1],
        "first": counted[0][0],
        "last": counted[1][0],
        "visited": [counted[0][1], counted[1][1]],
        "bins": (len(edges[0]) - 1) * (len(edges[1]) - 1),
        "at_goal": at_goal,
        "rounds": names,
    }
    return {**found, "said": _said(found, grid=_grid_size(look) is not None)}


def _grid_size(look: Look) -> int | None:
    size = getattr(look.experiment.tasks.env, "size", None)
    grid = look.experiment.tasks.env.name == "GridNavigation"
    return size if grid and isinstance(size, int) else None


def _places(look: Look) -> tuple[np.ndarray, np.ndarray | None, Any] | None:
    """Returns places `[N, K + 1, E, T, 2]` after each step, goals `[N, 2]`, edges."""
    reached = np.asarray(look.rounds.next_obs)
    size = _grid_size(look)
    if size is not None:
        if reached.shape[-1] != 2:
            reached = np.stack(np.divmod(reached.argmax(axis=-1), size), axis=-1)
        edges = np.arange(size + 1) - 0.5
        return reached, np.asarray(look.tasks.goal), (edges, edges)
    if look.experiment.goal is None:
        return None
    goals = np.asarray(jax.vmap(look.experiment.goal)(look.tasks))
    seen = np.concatenate([reached[look.rounds.mask], goals, np.zeros((1, 2))])
    # Far stragglers would make all else one bin.
    low, high = np.quantile(seen, 0.005, axis=0), np.quantile(seen, 0.995, axis=0)
    low, high = np.minimum(low, goals.min(axis=0)), np.maximum(high, goals.max(axis=0))
    half = 0.55 * np.max(high - low)
    centre = (low + high) / 2
    edges = [np.linspace(c - half, c + half, NUM_BINS + 1) for c in centre]
    return reached, goals, edges


def _counts(places, mask, edges):
    """Returns shares of steps by bin, and how many bins an episode sees."""
    index = np.stack(
        [np.digitize(places[..., i], edges[i]) - 1 for i in (0, 1)], axis=-1
    )
    shape = [len(edge) - 1 for edge in edges]
    inside = mask & np.all((index >= 0) & (index < shape), axis=-1)
    flat = np.where(inside, index[..., 0] * shape[1] + index[..., 1], 0)
    counts = np.bincount(flat[inside], minlength=shape[0] * shape[1])
    episodes = zip(
        flat.reshape(-1, flat.shape[-1]),
        inside.reshape(-1, flat.shape[-1]),
        strict=True,
    )
    visited = np.mean([len(np.unique(row[valid])) for row, valid in episodes])
    return (counts / max(mask.sum(), 1)).reshape(shape), float(visited)


def _said(found: dict[str, Any], *, grid: bool) -> str:
    unit = "cells" if grid else "squares"
    first, last = found["visited"]
    said = (
        f"An episode sees {first:.1f} of {found['bins']} {unit} at first and "
        f"{last:.1f} at last: "
        + ("the search narrows" if last < 0.9 * first else "the search does not narrow")
    )
    if found["at_goal"] is not None:
        start, end = found["at_goal"]
        said += (
            f"; {start:.0%} of the steps at first and {end:.0%} at last are at the goal"
        )
    return f"{said}."
