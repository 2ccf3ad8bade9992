"""What a memory knows of the task, step by step along a trial."""

from typing import Any

import jax
import numpy as np

from metarl_jax import trials
from metarl_jax.inspection import probes
from metarl_jax.inspection.features import along_trial
from metarl_jax.inspection.looking import Look, compiled, over_tasks
from metarl_jax.inspection.posteriors import posterior_mean

NUM_MOMENTS = 16
MIN_TRIALS = 20
READERS = {"linear probe": probes.linear, "nearest neighbours": probes.nearest}


def streams(look: Look) -> Any:
    """Returns the trials as streams `[N, (K + 1) E T]`."""

    def one(rounds):
        episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rounds)
        return trials.stream(episodes)

    return over_tasks(one, look.rounds)


def memory(look: Look) -> dict[str, Any] | None:
    """Probes what the memory holds of the task; None where there is none.

    A linear and a nearest-neighbour probe predict the task's numbers from what the
    policy's heads read, after so many steps of the trial, on trials that they have not
    seen. Beside them the exact posterior's mean, which nobody can beat; and two
    controls: the same probe of a network that was never trained, taken through the very
    same trials, and of trials with the tasks dealt out anew.

    Returns:
      `steps` `[M]` seen; `r_squared`, by name, the share of the task's variance that is
      predicted `[M]`; `entropy` `[M]` of the actions in nats; `episode_ends`; `judged`,
      the moment that is spoken of in `said`: where the last episode begins, at which
      the observation gives nothing away.
    """
    if look.target.shape[1] == 0 or look.protocol.num_tasks < MIN_TRIALS:
        return None
    if look.experiment.belief is not None:
        return _rounds(look)
    if not look.remembers:
        return None
    steps = streams(look)
    policy = look.experiment.algorithm.policy

    @compiled
    def held(agent, steps):
        return along_trial(policy, agent.params, agent.memory, steps)

    features, entropy = held(look.agent, steps)
    control, _ = held(look.untrained, steps)
    # Where the shortest trial ends: of all trials there is something.
    last = int(steps.mask.sum(axis=1).min())
    ended = (steps.terminated | steps.truncated)[:, : last - 1].all(axis=0)
    starts = np.flatnonzero(ended) + 1
    moments = np.round(np.linspace(0, last - 1, NUM_MOMENTS)).astype(int)
    moments = np.unique([*moments, *starts])
    exact = posterior_mean(look.experiment.tasks)
    known = None if exact is None else over_tasks(exact, steps)
    found = {
        "steps": moments,
        "unit": "steps of the trial seen",
        "r_squared": _table(look.target, features, control, known, moments),
        "entropy": entropy.mean(axis=0)[moments],
        "episode_ends": starts,
        # Where the last episode begins: what is seen there says nothing of the task.
        "judged": int(
            np.searchsorted(moments, starts[-1] if len(starts) else last - 1)
        ),
        "num_trials": look.protocol.num_tasks,
        "names": look.names,
    }
    return {**found, "said": said(found)}


def _rounds(look: Look) -> dict[str, Any]:
    """Probes a belief that is inferred after each round."""
    believe: Any = look.experiment.belief

    def beliefs(agents):
        def one(agents):
            mean, std = jax.vmap(believe)(agents)
            return jax.numpy.concatenate([mean, jax.numpy.log(std)], axis=-1)

        return over_tasks(one, agents)

    adapt = look.experiment.algorithm.adapt

    def infer(rounds):
        def one(agent, data):
            return adapt(look.key, agent, data), agent

        return jax.lax.scan(one, look.untrained, rounds)[1]

    features = beliefs(look.agents)
    control = beliefs(over_tasks(infer, look.rounds))
    moments = np.arange(features.shape[1])
    exact = posterior_mean(look.experiment.tasks)
    known = None
    if exact is not None:
        lengths = look.rounds.mask.sum(axis=(2, 3))
        seen = np.cumsum(lengths, axis=1) - lengths
        means = over_tasks(exact, streams(look))
        known = np.stack([means[n][seen[n]] for n in range(len(seen))])
    found = {
        "steps": moments * look.protocol.num_episodes,
        "unit": "episodes seen",
        "r_squared": _table(look.target, features, control, known, moments),
        "entropy": None,
        "episode_ends": [],
        "judged": len(moments) - 1,
        "num_trials": look.protocol.num_tasks,
        "names": look.names,
    }
    return {**found, "said": said(found)}


def _table(target, features, control, known, moments) -> dict[str, list[float]]:
    """Returns R² at the moments, by who predicts."""
    dealt = np.random.default_rng(0).permutation(len(target))

    def probed(x, y, read):
        return [
            probes.r_squared(y, probes.cross_validated(x[:, t], y, read))
            for t in moments
        ]

    rows = {}
    if known is not None:
        rows["exact posterior"] = [
            probes.r_squared(target, known[:, t]) for t in moments
        ]
    for name, read in READERS.items():
        rows[name] = probed(features, target, read)
    rows["untrained network"] = probed(control, target, probes.linear)
    rows["tasks dealt anew"] = probed(features, target[dealt], probes.linear)
    return rows


def said(found: dict[str, Any]) -> str:
    """Says what is seen of a probed memory, controls included."""
    at = found["judged"]
    last = {name: row[at] for name, row in found["r_squared"].items()}
    best = max(READERS, key=lambda name: last[name])
    text = (
        f"After {found['steps'][at]} {found['unit']} a {best.removesuffix('s')} reads "
        f"{_share(last[best])} of the task's variance out of the memory"
        if best == "linear probe"
        else f"After {found['steps'][at]} {found['unit']} the nearest neighbours tell "
        f"{_share(last[best])} of the task's variance by the memory"
    )
    if "exact posterior" in last:
        text += f", where the exact posterior knows {_share(last['exact posterior'])}"
    control = last["untrained network"]
    text += f"; out of an untrained network's a linear probe reads {_share(control)}"
    if last["linear probe"] - control < 0.05:
        text += ", so that this says nothing of what was learned"
    if abs(last["tasks dealt anew"]) > 0.15:
        text += (
            f"; with tasks dealt out anew it reads {_share(last['tasks dealt anew'])}, "
            "so that there are too few trials to trust it"
        )
    return text + "."


def _share(x: float) -> str:
    return f"{max(x, 0):.0%}" if np.isfinite(x) else "nothing"
