"""A map of what adaptation makes of tasks: are alike tasks alike inside?"""

from typing import Any

import jax
import numpy as np

from metarl_jax.inspection import probes
from metarl_jax.inspection.features import along_trial
from metarl_jax.inspection.looking import Look, over_tasks
from metarl_jax.inspection.memories import MIN_TRIALS, streams


def task_map(look: Look) -> dict[str, Any] | None:
    """Projects what adaptation made of tasks to the two directions that differ most.

    Of adapted parameters the change θ' - θ, of a belief its mean, of a memory what the
    heads read at the end of the trial.

    Returns:
      `point` `[N, 2]`; `share` `[2]` of the variance; `target` `[N, P]` and its
      `names`, at most two; `told`, R² of the task predicted linearly from the two
      coordinates, of tasks left out, and `control`, the same with tasks dealt out anew;
      `what` is drawn; `said`. None where tasks do not differ or there are too few.
    """
    if look.target.shape[1] == 0 or look.protocol.num_tasks < MIN_TRIALS:
        return None
    found = _embedding(look)
    if found is None:
        return None
    what, x = found
    x = np.asarray(x, float).reshape(len(x), -1)
    if not np.isfinite(x).all() or not x.std(axis=0).any():
        return None
    point, _, share = probes.principal_axes(x)
    target = look.target[:, :2]
    told = probes.r_squared(target, probes.cross_validated(point, target))
    dealt = target[np.random.default_rng(0).permutation(len(target))]
    control = probes.r_squared(dealt, probes.cross_validated(point, dealt))
    said = (
        f"Two of {min(x.shape)} directions hold {share.sum():.0%} of the variance of "
        f"{what}, and tell {max(told, 0):.0%} of that of the task linearly "
        f"({max(control, 0):.0%} of tasks dealt out anew)"
    )
    if told < control + 0.1:
        said += ": the map does not tell tasks apart"
    return {
        "point": point,
        "share": share,
        "target": target,
        "names": look.names[:2],
        "told": told,
        "control": control,
        "what": what,
        "said": f"{said}.",
    }


def _embedding(look: Look) -> tuple[str, np.ndarray] | None:
    """Returns what is drawn of each task, and what it is."""
    policy = look.experiment.algorithm.policy
    if look.experiment.belief is not None:
        believe = look.experiment.belief
        last = jax.tree.map(lambda x: x[:, -1], look.agents)
        return "the belief's mean", over_tasks(lambda a: believe(a)[0], last)
    if look.remembers:
        steps = streams(look)

        def end(steps):
            agent = look.agent
            held, _ = along_trial(policy, agent.params, agent.memory, steps)
            return held[steps.mask.sum() - 1]

        return "the memory at the end of the trial", over_tasks(end, steps)
    if not look.moves:
        return None
    leaves = jax.tree.leaves(look.agents.params)
    change = [np.reshape(x[:, -1] - x[:, 0], (len(x), -1)) for x in leaves]
    return "the change of the parameters", np.concatenate(change, axis=1)
