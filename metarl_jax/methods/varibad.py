"""A belief about the task, acted on (Zintgraf et al. 2020, arXiv 1910.08348)."""

from typing import Any, Literal

from metarl_jax.algorithms.varibad import varibad as make_varibad
from metarl_jax.policies.decoders import RewardPerState, transition_decoder
from metarl_jax.recipe import Method
from metarl_jax.settings import (
    PPO,
    CoreName,
    Mlp,
    PolicySettings,
    Trials,
    core_named,
    decaying_adam,
)
from metarl_jax.types import MetaAlgorithm, TaskDistribution
from metarl_jax.validation import check_choice, check_positive, check_sizes

DecoderName = Literal["transition", "reward-per-state"]


def decoder_named(
    name: DecoderName, tasks: TaskDistribution, hidden_sizes: tuple[int, ...]
) -> Any:
    """Makes what is predicted by a belief.

    Raises:
      ValueError: if there is no such decoder, or observations are not of one state
        among many.
    """
    check_choice(("transition", "reward-per-state"), decoder=name)
    if name == "transition":
        return transition_decoder(tasks, hidden_sizes=hidden_sizes)
    return RewardPerState(tasks.observation.size, hidden_sizes)


def build(
    tasks: TaskDistribution,
    policy: PolicySettings,
    *,
    trials: Trials = Trials(),
    core: CoreName = "gru",
    size: int = 64,
    latent_size: int = 5,
    decoder: DecoderName = "transition",
    decoder_hidden_sizes: tuple[int, ...] = (32, 32),
    num_belief_epochs: int = 1,
    num_bounds: int | None = 50,
    num_decoded: int | None = 50,
    belief_lr: float = 5e-3,
    kl_coeff: float = 0.1,
    policy_moves_encoder: bool = False,
    ppo: PPO = PPO(discount=0.99),
    entropy_coeff: float = 0.05,
) -> MetaAlgorithm:
    """Builds VariBAD. The policy acts on the belief; its critic is another of its kind.

    Args:
      core: what the encoder remembers with.
      size: of its state.
      latent_size: numbers that the belief is about.
      decoder: what a belief predicts: the reward of a transition, or of each state
        where observations are one-hot.
      decoder_hidden_sizes: widths of the hidden layers of the decoder.
      num_belief_epochs: the encoder's and the decoder's passes.
      num_bounds: of how many of a trial's beliefs at most the likelihood is computed;
        none: of all.
      num_decoded: how many of its steps at most are decoded; none: all.
      belief_lr: first learning rate of their Adam; it falls as the policy's does.
      kl_coeff: weight of what the belief learns in a step, against the likelihood.
      policy_moves_encoder: whether the policy's gradient flows into the encoder.
      entropy_coeff: weight of the policy's entropy.
    """
    counts = {"num_bounds": num_bounds, "num_decoded": num_decoded}
    counts = {name: count for name, count in counts.items() if count is not None}
    check_positive(num_belief_epochs=num_belief_epochs, **counts)
    check_sizes(decoder_hidden_sizes=decoder_hidden_sizes)
    trial_length = trials.num_episodes * tasks.horizon
    critic = None  # a policy with memory is refused by the algorithm
    if isinstance(policy, Mlp):
        critic = policy.make(
            tasks, trial_length, value_head=True, value_scale=ppo.value_scale
        )
    return make_varibad(
        tasks,
        policy.make(tasks, trial_length),
        core=core_named(core, size=size, context=trial_length),
        latent_size=latent_size,
        decoder=decoder_named(decoder, tasks, decoder_hidden_sizes),
        critic=critic,
        num_tasks=trials.num_tasks,
        num_episodes=trials.num_episodes,
        num_belief_epochs=num_belief_epochs,
        num_bounds=num_bounds and min(num_bounds, trial_length + 1),
        num_decoded=num_decoded and min(num_decoded, trial_length),
        belief_optimizer=decaying_adam(
            belief_lr,
            decay_steps=ppo.decay_steps,
            updates_per_step=num_belief_epochs * ppo.num_minibatches,
            name="belief_lr",
        ),
        kl_coeff=kl_coeff,
        policy_moves_encoder=policy_moves_encoder,
        entropy_coeff=entropy_coeff,
        **ppo.arguments(),
    )


varibad = Method("varibad", build, "memory")
