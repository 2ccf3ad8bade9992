"""A map of what adaptation makes of tasks: are alike tasks alike inside?"""

from typing import Any

import jax
import numpy as np

from metarl_jax.inspection import probes
from metarl_jax.inspection.features import along_trial
from metarl_jax.inspection.looking import Look, compiled, over_tasks
from metarl_jax.inspection.memories import GAP, MIN_TRIALS, streams


def task_map(look: Look) -> dict[str, Any] | None:
    """Projects what adaptation made of tasks to the two directions that differ most.

    Of adapted parameters the change θ' - θ, of a belief its mean, of a memory what the
    heads read at the end of the trial.

    Returns:
      `point` `[N, 2]`; `share` `[2]` of the variance; `target` `[N, P]` and its
      `names`, at most two; `told`, R² of the task predicted linearly from the two
      coordinates, of tasks left out, `control`, the same with tasks dealt out anew, and
      `untrained`, of an agent that was never trained on these tasks, None where its
      map is a point; `what` is drawn; `said`. None where tasks do not differ or there
      are too few.
    """
    if look.target.shape[1] == 0 or look.protocol.num_tasks < MIN_TRIALS:
        return None
    what, x = _embedding(look)
    if not _spread(x):
        return None
    point, _, share = probes.principal_axes(x)
    target = look.target[:, :2]
    dealt = target[np.random.default_rng(0).permutation(len(target))]
    told, control = _told(point, target), _told(point, dealt)
    agents, rounds = look.meet(look.untrained)
    strange = look._replace(agent=look.untrained, agents=agents, rounds=rounds)
    theirs = _embedding(strange)[1]
    untrained = None
    if _spread(theirs):
        untrained = _told(probes.principal_axes(theirs)[0], target)
    said = (
        f"Two of {min(x.shape)} directions hold {share.sum():.0%} of the variance of "
        f"{what}, and tell {max(told, 0):.0%} of that of the task linearly "
        f"({max(control, 0):.0%} of tasks dealt out anew)"
    )
    if untrained is not None:
        said += f"; the map of an agent never trained tells {max(untrained, 0):.0%}"
    if told < control + GAP:
        said += ": the map does not tell tasks apart"
    elif untrained is not None and told < untrained + GAP:
        said += ": that it tells tasks apart was not learned"
    return {
        "point": point,
        "share": share,
        "target": target,
        "names": look.names[:2],
        "told": told,
        "control": control,
        "untrained": untrained,
        "what": what,
        "said": f"{said}.",
    }


def _told(point: np.ndarray, target: np.ndarray) -> float:
    return probes.r_squared(target, probes.cross_validated(point, target))


def _spread(x: np.ndarray) -> bool:
    """Tells whether there is a map: tasks that differ, by finite numbers."""
    return bool(x.size and np.isfinite(x).all() and x.std(axis=0).any())


def _embedding(look: Look) -> tuple[str, np.ndarray]:
    """Returns what is drawn, and it `[N, F]` of each task; none of it where nothing."""
    what, x = _drawn(look)
    return what, np.asarray(x, float).reshape(len(x), -1)


def _drawn(look: Look) -> tuple[str, np.ndarray]:
    policy = look.experiment.algorithm.policy
    if look.experiment.belief is not None:
        believe = look.experiment.belief
        last = jax.tree.map(lambda x: x[:, -1], look.agents)
        return "the belief's mean", over_tasks(lambda a: believe(a)[0], last)
    if look.remembers:

        @compiled
        def end(agent, steps):
            held, _ = along_trial(policy, agent.params, agent.memory, steps)
            return held[steps.mask.sum() - 1]

        return "the memory at the end of the trial", end(
            look.agent, streams(look.rounds)
        )
    leaves = jax.tree.leaves(look.agents.params) if look.moves else []
    change = [np.reshape(x[:, -1] - x[:, 0], (len(x), -1)) for x in leaves]
    none = np.zeros((len(look.target), 0))
    return "the change of the parameters", np.concatenate([none, *change], axis=1)
