"""What a memory knows of the task, step by step along a trial."""

from collections.abc import Callable
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
OWN, STRANGERS = "the agent's trials", "an untrained agent's trials"
GAP = 0.1  # of a share: what random networks differ by from the best of three
READERS = {"linear probe": probes.linear, "nearest neighbours": probes.nearest}


def streams(rounds: Any) -> Any:
    """Returns trials `[N, K + 1, E, T]` as streams `[N, (K + 1) E T]`."""

    def one(rounds):
        episodes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rounds)
        return trials.stream(episodes)

    return over_tasks(one, rounds)


def memory(look: Look) -> dict[str, Any] | None:
    """Probes what the memory holds of the task; None where there is none.

    A linear and a nearest-neighbour probe predict the task's numbers from what the
    policy's heads read, after so many steps of the trial, on trials that they have not
    seen. Beside them the exact posterior's mean, which nobody can beat; and two
    controls: the same probe of a network that was never trained, taken through the very
    same trials, and of trials with the tasks dealt out anew.

    A random recurrent network holds what it was shown last, and where the agent knows
    the task what it does gives it away, so that the first control need not fail. It is
    therefore asked twice more, with a reader of as many main directions as the task has
    numbers (`metarl_jax.inspection.probes.main_directions`): of the agent's trials, and
    of an untrained agent's on the same tasks, where nothing that is done tells.

    Returns:
      `steps` `[M]` seen; `r_squared`, by name, the share of the task's variance that is
      predicted `[M]`; `entropy` `[M]` of the actions in nats; `episode_ends`; `judged`,
      the moment that is spoken of in `said`: where the last episode begins, at which
      the observation gives nothing away; `main_directions`, at that moment, by whose
      trials, the shares told by the exact posterior, by this network's and by the best
      of three untrained networks' main directions; `num_directions` of them.
    """
    if look.target.shape[1] == 0 or look.protocol.num_tasks < MIN_TRIALS:
        return None
    if look.experiment.belief is not None:
        return _rounds(look)
    if not look.remembers:
        return None
    policy = look.experiment.algorithm.policy
    exact = posterior_mean(look.experiment.tasks)

    @compiled
    def held(agent, steps):
        return along_trial(policy, agent.params, agent.memory, steps)

    observer = None if exact is None else compiled(lambda _, steps: exact(steps))

    def at(rounds):
        steps = streams(rounds)
        moment = _last_start(steps)[0]
        known = None if observer is None else observer((), steps)[:, moment]
        return lambda agent: held(agent, steps)[0][:, moment], known

    steps = streams(look.rounds)
    features, entropy = held(look.agent, steps)
    control, _ = held(look.untrained, steps)
    start, starts, last = _last_start(steps)
    moments = np.round(np.linspace(0, last - 1, NUM_MOMENTS)).astype(int)
    moments = np.unique([*moments, *starts])
    known = None if observer is None else observer((), steps)
    found = {
        "steps": moments,
        "unit": "steps of the trial seen",
        "r_squared": _table(look.target, features, control, known, moments),
        "entropy": entropy.mean(axis=0)[moments],
        "episode_ends": starts,
        "judged": int(np.searchsorted(moments, start)),
        **_directions(look, at),
    }
    return {**found, "said": said(found)}


def _last_start(steps: Any) -> tuple[int, np.ndarray, int]:
    """Returns where the last episode of all trials begins, all starts, and the end.

    What is seen where an episode begins says nothing of the task; where there is one
    alone, the last step is taken.
    """
    last = int(steps.mask.sum(axis=1).min())  # of all trials there is something
    ended = (steps.terminated | steps.truncated)[:, : last - 1].all(axis=0)
    starts = np.flatnonzero(ended) + 1
    return int(starts[-1]) if len(starts) else last - 1, starts, last


def _rounds(look: Look) -> dict[str, Any]:
    """Probes a belief that is inferred after each round."""
    believe: Any = look.experiment.belief
    adapt = look.experiment.algorithm.adapt
    exact = posterior_mean(look.experiment.tasks)

    def numbers(agent):
        mean, std = believe(agent)
        return jax.numpy.concatenate([mean, jax.numpy.log(std)], axis=-1)

    @compiled
    def believed(agent, rounds):
        def one(agent, data):
            return adapt(look.key, agent, data), numbers(agent)

        return jax.lax.scan(one, agent, rounds)[1]

    def known_of(rounds):
        if exact is None:
            return None
        lengths = rounds.mask.sum(axis=(2, 3))
        seen = np.cumsum(lengths, axis=1) - lengths
        means = over_tasks(exact, streams(rounds))
        return np.stack([means[n][seen[n]] for n in range(len(seen))])

    def at(rounds):
        known = known_of(rounds)
        known = None if known is None else known[:, -1]
        return lambda agent: believed(agent, rounds)[:, -1], known

    features = over_tasks(jax.vmap(numbers), look.agents)
    control = believed(look.untrained, look.rounds)
    moments = np.arange(features.shape[1])
    known = known_of(look.rounds)
    found = {
        "steps": moments * look.protocol.num_episodes,
        "unit": "episodes seen",
        "r_squared": _table(look.target, features, control, known, moments),
        "entropy": None,
        "episode_ends": [],
        "judged": len(moments) - 1,
        **_directions(look, at),
    }
    return {**found, "said": said(found)}


def _directions(look: Look, at: Callable) -> dict[str, Any]:
    """Returns what main directions tell, in this agent's and in a stranger's trials.

    Args:
      look: the look.
      at: `(rounds) -> (read, known)`: at the moment that is judged, `(agent) -> [N, F]`
        and what is known `[N, P]` or None.
    """
    rank = look.target.shape[1]

    def told(features):
        read = probes.main_directions(rank)
        predicted = probes.cross_validated(features, look.target, read)
        return probes.r_squared(look.target, predicted)

    met = {OWN: look.rounds, STRANGERS: look.meet(look.untrained)[1]}
    rows = {}
    for name, rounds in met.items():
        read, known = at(rounds)
        rows[name] = {
            "exact posterior": None
            if known is None
            else probes.r_squared(look.target, known),
            "trained": told(read(look.agent)),
            "untrained": max(told(read(agent)) for agent in look.strangers),
        }
    return {
        "main_directions": rows,
        "num_directions": rank,
        "num_trials": look.protocol.num_tasks,
        "names": look.names,
    }


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
    own, strange = (found["main_directions"][name] for name in (OWN, STRANGERS))
    few = "main direction" if found["num_directions"] == 1 else "main directions"
    text += (
        f". Its {found['num_directions']} {few} alone tell {_share(own['trained'])}, "
        f"an untrained network's {_share(own['untrained'])}; in trials of an untrained "
        f"agent, whose actions give nothing away, {_share(strange['trained'])}"
    )
    if strange["exact posterior"] is not None:
        text += f" of the {_share(strange['exact posterior'])} that can be known"
    text += f", against {_share(strange['untrained'])}: "
    learned = any(row["trained"] - row["untrained"] >= GAP for row in (own, strange))
    text += (
        "to hold the task was learned"
        if learned
        else "the control does not fail, and this says nothing of what was learned"
    )
    if abs(last["tasks dealt anew"]) > 0.15:
        text += (
            f"; with tasks dealt out anew it reads {_share(last['tasks dealt anew'])}, "
            "so that there are too few trials to trust it"
        )
    return text + "."


def _share(x: float) -> str:
    return f"{max(x, 0):.0%}" if np.isfinite(x) else "nothing"
