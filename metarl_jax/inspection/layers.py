"""Features or head: how far each layer moved in adaptation, and what that changed.

Raghu et al. 2020 (arXiv 1909.09157) ask whether MAML learns fast or reuses features:
does what the hidden layers hold change when a task is adapted to, or the head alone?
Answered in three ways, of which the last counts: how far the parameters moved, how
alike the representations are before and after, and what return is left where only a
part of the adaptation is kept.
"""

from typing import Any

import jax
import numpy as np

from metarl_jax.algorithms.anil import body
from metarl_jax.inspection.features import layer_outputs
from metarl_jax.inspection.looking import Look, compiled, mean_return, over_tasks
from metarl_jax.inspection.similarity import linear_cka, moved

NUM_INPUTS = 500  # observations that representations are compared on
PARTS = ("nothing", "the head", "the features", "all")


def layers(look: Look) -> dict[str, Any] | None:
    """Measures adaptation layer by layer; None where it moves no parameters.

    Returns:
      `distance` and `relative` by layer, ‖θ'_l - θ_l‖ and that divided by ‖θ_l‖, `[N]`
      each (relative is None of a layer that is zero at the start); `similarity` by
      layer, linear CKA of its outputs before and after, on the observations of the
      first round, `[N]`; `return_of`, the mean return with that part of the adaptation
      alone, `[N]` each, where there are hidden layers and a head that both moved; and
      `said`.
    """
    if look.remembers or not look.moves:
        return None
    policy = look.experiment.algorithm.policy
    first, last = (
        jax.tree.map(lambda x, i=i: x[:, i], look.agents.params) for i in (0, -1)
    )
    steps = jax.tree.map(lambda x: x[:, 0], look.rounds)

    def one_task(before, after, steps):
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
        every = -(-flat.mask.shape[0] // NUM_INPUTS)
        obs, mask = flat.obs[::every], flat.mask[::every]

        def outputs(params):
            def one(obs):
                return layer_outputs(policy, params, look.agent.memory, obs)

            return jax.vmap(one)(obs)

        old, new = outputs(before), outputs(after)
        alike = {name: linear_cka(old[name], new[name], mask) for name in old}
        return moved(before, after), alike

    distances, similarity = over_tasks(one_task, first, last, steps)
    distance = {name: pair[0] for name, pair in distances.items()}
    relative = {
        name: pair[0] / pair[1] if np.all(pair[1] > 0) else None
        for name, pair in distances.items()
    }
    # Traced dictionaries come back sorted; layers are shown as they follow one another.
    order = sorted(similarity, key=_order)
    found = {
        "distance": {name: distance[name] for name in sorted(distance, key=_order)},
        "relative": {name: relative[name] for name in sorted(relative, key=_order)},
        "similarity": {name: similarity[name] for name in order},
        "return_of": _parts(look, first, last),
        "adaptation_steps": look.protocol.num_adaptation_steps,
    }
    return {**found, "said": _said(found)}


def _order(name: str) -> tuple[bool, str]:
    return not body(name), name


def _parts(look: Look, first: Any, last: Any) -> dict[str, np.ndarray] | None:
    """Returns the return with a part of the adaptation alone."""

    def share(part):
        def choose(path, old, new):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            kept = part == "all" or (part == "the features") == body(name)
            return new if kept and part != "nothing" else old

        return jax.tree_util.tree_map_with_path(choose, first, last)

    def differ(a, b):
        pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        return any(np.any(x != y) for x, y in pairs)

    if not all(differ(share(part), first) for part in PARTS[1:]):
        return None
    # The same episodes' keys for all, so that nothing but the parameters differs.
    keys = jax.random.split(look.key, look.protocol.num_tasks)

    @compiled
    def run(_, key, params, task):
        count = look.protocol.num_episodes
        return mean_return(look, key, params, task, num_episodes=count)

    return {part: run((), keys, share(part), look.tasks) for part in PARTS}


def _said(found: dict[str, Any]) -> str:
    relative = {k: np.mean(v) for k, v in found["relative"].items() if v is not None}
    said = []
    if relative:
        most = max(relative, key=lambda name: relative[name])
        least = min(relative, key=lambda name: relative[name])
        said.append(
            f"of the layers {most} moves most, by {relative[most]:.1%} of its length"
            + (f", and {least} least, by {relative[least]:.1%}" * (most != least))
        )
    alike = {k: np.nanmean(v) for k, v in found["similarity"].items()}
    if alike:
        low = min(alike, key=lambda name: alike[name])
        said.append(
            f"least alike before and after is what {low} puts out (CKA "
            f"{alike[low]:.3f})"
        )
    if found["return_of"] is not None:
        mean = {part: np.mean(x) for part, x in found["return_of"].items()}
        gain = mean["all"] - mean["nothing"]
        if gain > 0:
            head = (mean["the head"] - mean["nothing"]) / gain
            features = (mean["the features"] - mean["nothing"]) / gain
            counts = "the head that counts"
            if head <= features:
                counts = "the features that count"
            said.append(
                f"of the gain of {gain:.2f} the head alone brings {head:.0%} and the "
                f"features alone {features:.0%}: it is {counts}"
            )
        else:
            said.append(f"adaptation gains nothing here ({gain:.2f})")
    return _sentence(said)


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""
