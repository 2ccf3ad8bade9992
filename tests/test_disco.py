"""Disco103: ours gives what the authors' code recorded; its formulas are plain loops."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.published import disco_103
from metarl_jax.update_rules import disco
from metarl_jax.update_rules.update_network import UpdateNetwork

FOLDER = os.environ.get("METARL_JAX_DISCO")
WHERE = Path(FOLDER or ".")
published = pytest.mark.skipif(
    FOLDER is None,
    reason="METARL_JAX_DISCO does not say where disco_103.npz and its record are",
)


@pytest.fixture(scope="module")
def recorded():
    """One step of the authors' learner, batch first."""
    with np.load(WHERE / "disco_103_one_step.npz") as file:
        arrays = {name.rstrip("/"): file[name] for name in file.files}

    def flipped(name):
        return jnp.asarray(arrays[name]).swapaxes(0, 1)

    def predictions(prefix):
        names = ("logits", "y", "z", "aux_pi", "q")
        return disco.Predictions(*(flipped(f"{prefix}/{name}") for name in names))

    def rule_state(prefix):
        rnn = f"{prefix}/rnn/lstm/meta_rnn_state"
        averages = [
            disco.Average(
                *(
                    arrays[f"{prefix}/{which}_ema/{part}"]
                    for part in ("moment1", "moment2", "decay_product")
                )
            )
            for which in ("adv", "td")
        ]
        return disco.RuleState(arrays[f"{rnn}/hidden"], arrays[f"{rnn}/cell"], *averages)

    experience = disco.Experience(
        flipped("action"),
        flipped("reward")[:, 1:],
        ~flipped("discount")[:, 1:],
        flipped("behaviour_out/logits"),
    )
    return arrays, predictions, rule_state, experience


@published
def test_the_published_rule_says_what_was_recorded(recorded):
    arrays, predictions, rule_state, experience = recorded
    agent, slow = predictions("agent_out"), predictions("meta_out/target_out")
    targets, estimates, state = jax.jit(UpdateNetwork().apply)(
        disco_103(WHERE / "disco_103.npz"),
        rule_state("meta_state_before"),
        agent,
        slow,
        experience,
    )

    def check(ours, name, atol=1e-4):
        theirs = arrays[name]
        if np.ndim(ours) > 1:
            ours = np.swapaxes(ours, 0, 1)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol, err_msg=name)

    check(targets.logits, "meta_out/pi")
    check(targets.y, "meta_out/y")
    check(targets.z, "meta_out/z")
    check(estimates.q, "meta_out/q_value")
    # Theirs are up to 2e-4 from what float64 gives of the same predictions.
    check(estimates.q_target, "meta_out/q_target", 3e-4)
    check(estimates.advantage, "meta_out/adv", 3e-4)
    check(estimates.q_advantage, "meta_out/qv_adv", 3e-4)
    check(estimates.td_error, "meta_out/q_td", 3e-4)
    for ours, theirs in zip(
        jax.tree.leaves(state),
        jax.tree.leaves(rule_state("meta_state_after")),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)

    each = disco.losses(agent, experience, targets, estimates.td_error)
    means = {"pi": "pi_loss", "next_pi": "aux_kl_loss", "q": "q_loss"}
    for ours, theirs in means.items():
        check(jnp.mean(each[ours]), f"log/{theirs}")
    # Theirs leaves out the first step of an episode.
    begins = ~arrays["discount"][:-1].swapaxes(0, 1)
    check(jnp.mean(each["total"], where=~begins), "log/total_loss")
