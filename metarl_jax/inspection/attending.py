"""What a transformer looks at: its attention over the past steps of a trial."""

from typing import Any

import numpy as np

from metarl_jax.inspection.features import attention
from metarl_jax.inspection.looking import Look, compiled
from metarl_jax.inspection.memories import streams

NUM_TRIALS = 64
MAX_STEPS = 200  # of a trial: attention is as large as its square


def attending(look: Look) -> dict[str, Any] | None:
    """Measures where a transformer's layers look, against an untrained one's.

    Returns:
      `weight` `[layers, L, L]`, of one trial, the mean over heads: how much the step of
      the row looks at the step of the column; `back` and `untrained_back`, by layer,
      the mean distance in steps over trials, of the steps from the middle of the trial
      on; `on_reward` and `untrained_on_reward`, by layer, how much more than evenly is
      looked at steps whose last reward was above the trial's mean; `said`. None
      where no core attends.
    """
    if not look.remembers:
        return None
    steps = streams(look.rounds)
    policy = look.experiment.algorithm.policy
    count = min(NUM_TRIALS, look.protocol.num_tasks)
    length = min(int(steps.mask.sum(axis=1).min()), MAX_STEPS)
    if length < 2:
        return None
    steps = type(steps)(*(x[:count, :length] for x in steps))

    @compiled
    def weights(agent, steps):
        found = attention(policy, agent.params, agent.memory, steps)
        return () if found is None else found.mean(axis=1)

    learned = weights(look.agent, steps)
    if isinstance(learned, tuple):
        return None
    untrained = weights(look.untrained, steps)
    # What is remembered at a step is the reward of the one before.
    before = np.concatenate([np.zeros((count, 1)), steps.reward[:, :-1]], axis=1)
    paid = before > before.mean(axis=1, keepdims=True)
    found = {
        "weight": learned[0],
        "back": _back(learned),
        "untrained_back": _back(untrained),
        "on_reward": _on(learned, paid),
        "untrained_on_reward": _on(untrained, paid),
        "num_trials": count,
    }
    return {**found, "said": _said(found)}


def _back(weight: np.ndarray) -> list[float]:
    """Returns the mean distance that each layer looks back."""
    length = weight.shape[-1]
    distance = np.arange(length)[:, None] - np.arange(length)
    return list(np.sum(weight * distance, axis=-1)[..., length // 2 :].mean((0, 2)))


def _on(weight: np.ndarray, paid: np.ndarray) -> list[float]:
    """Returns the weight on steps that paid, over what even attention would give."""
    length = weight.shape[-1]
    past = np.tril(np.ones((length, length)))
    even = (past @ paid[..., None])[..., 0] / past.sum(axis=1)  # [N, L]
    given = np.einsum("nlqk,nk->nlq", weight, paid)
    later = slice(length // 2, None)
    rows = even[:, later].mean()
    return list(given[..., later].mean((0, 2)) / rows) if rows > 0 else []


def _said(found: dict[str, Any]) -> str:
    parts = []
    for i, (back, untrained) in enumerate(
        zip(found["back"], found["untrained_back"], strict=True)
    ):
        text = f"layer {i + 1} looks {back:.1f} steps back on average"
        text += f" ({untrained:.1f} untrained)"
        if found["on_reward"]:
            learned, control = found["on_reward"][i], found["untrained_on_reward"][i]
            text += f", and gives steps after a better reward {learned:.2f} times an "
            text += f"even share ({control:.2f})"
        parts.append(text)
    said = "; ".join(parts)
    return f"{said[:1].upper()}{said[1:]}."
