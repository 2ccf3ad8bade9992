"""Between agents: return along the line and over the plane through their parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax import aggregation
from metarl_jax.inspection.looking import Look, mean_return, over_tasks

LOW, HIGH = -0.25, 1.25
NUM_ALONG = 13
NUM_SIDE = 9


def plane(look: Look) -> dict[str, Any] | None:
    """Measures the return between the meta-learned start and two adapted agents.

    θ = θ₀ + a (θ_A - θ₀) + b (θ_B - θ₀), for the two of the tasks met that are
    furthest apart. (1, 0) and (0, 1) are the agents adapted to A and to B, the line
    between them is a + b = 1. Every point meets the same keys.

    Returns:
      `axis` `[S]` of a and of b; `return_a` and `return_b` `[S, S]`, of row a and
      column b, on the tasks A and B; `line` `[L]`, the share of B along the line from A
      to B, with `line_a` and `line_b` `[L]`; the two tasks as `task_a` and `task_b`;
      `said`. None where adaptation moves no parameters, or there are not two tasks.
    """
    if look.remembers or not look.moves or look.protocol.num_tasks < 2:
        return None
    i, j = _furthest(look.target)
    ends = [jax.tree.map(lambda x, n=n: x[n, -1], look.agents.params) for n in (i, j)]
    pair = jax.tree.map(lambda x: x[np.array([i, j])], look.tasks)
    start = look.agent.params
    vectors = aggregation.stack([aggregation.task_vector(m, start) for m in ends])

    def returns(scales):
        params = aggregation.add_task_vectors(start, vectors, scales)

        def on(task):
            count = look.protocol.num_episodes
            return mean_return(look, look.key, params, task, num_episodes=count)

        return jnp.stack([on(jax.tree.map(lambda x, n=n: x[n], pair)) for n in (0, 1)])

    axis = np.linspace(LOW, HIGH, NUM_SIDE)
    share = np.linspace(LOW, HIGH, NUM_ALONG)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    line = np.stack([1 - share, share], axis=-1)
    found = over_tasks(returns, np.concatenate([grid, line]).astype(np.float32))
    over, along = found[: len(grid)].reshape(NUM_SIDE, NUM_SIDE, 2), found[len(grid) :]
    record = {
        "axis": axis,
        "return_a": over[..., 0],
        "return_b": over[..., 1],
        "line": share,
        "line_a": along[:, 0],
        "line_b": along[:, 1],
        "task_a": look.target[i],
        "task_b": look.target[j],
        "names": look.names,
    }
    return {**record, "said": _said(record)}


def _furthest(target: np.ndarray) -> tuple[int, int]:
    """Returns the two tasks that differ most; the first two where none differs."""
    if not target.size:
        return 0, 1
    scaled = target / target.std(axis=0)
    squares = np.sum((scaled[:, None] - scaled) ** 2, axis=-1)
    i, j = np.unravel_index(np.argmax(squares), squares.shape)
    return (int(i), int(j)) if i != j else (0, 1)


def _said(record: dict[str, Any]) -> str:
    share, a, b = (np.asarray(record[k]) for k in ("line", "line_a", "line_b"))
    first, middle, last = (int(np.argmin(np.abs(share - x))) for x in (0, 0.5, 1))
    chord = np.mean([x[first] + x[last] for x in (a, b)]) / 2
    between = np.mean([x[middle] for x in (a, b)])
    # What there is to lose: by the agent of the other task.
    gap = (a[first] - a[last] + b[last] - b[first]) / 2
    said = (
        f"On task A the agent adapted to A has {a[first]:.2f} and the one adapted to B "
        f"{a[last]:.2f}, on task B {b[first]:.2f} and {b[last]:.2f}"
    )
    if not gap > 0:
        return f"{said}: neither gains by having adapted to its own."
    bend = float((between - chord) / gap)
    said += (
        f"; halfway between them the mean of both is {between:.2f}, "
        f"{abs(bend):.0%} of what lies between own and other "
        f"{'above' if bend > 0 else 'below'} the mean of the ends: "
    )
    if abs(bend) < 0.05:
        return f"{said}as on a straight line."
    return f"{said}{'no' if bend > 0 else 'a'} barrier lies between them."
