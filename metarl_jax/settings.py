"""Options that methods and policies share, as values that a command line can carry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import optax

from metarl_jax import surrogates, updates
from metarl_jax.policies import hypernetwork
from metarl_jax.policies.decoders import reward_per_state_decoder, transition_decoder
from metarl_jax.policies.hypernetwork import hypernetwork_policy
from metarl_jax.policies.linear_recurrent import LinearRecurrent
from metarl_jax.policies.memory import Core, memory_policy
from metarl_jax.policies.mlp import mlp_policy
from metarl_jax.policies.recurrent import GRU, LSTM
from metarl_jax.policies.tabular import tabular_policy
from metarl_jax.policies.transformer import Transformer
from metarl_jax.trust_region import TrustRegion
from metarl_jax.types import DifferentiationName, Policy, TaskDistribution
from metarl_jax.validation import (
    check_above_zero,
    check_choice,
    check_flags,
    check_not_negative,
    check_positive,
    check_sizes,
)

SurrogateName = Literal[
    "score-function",
    "likelihood-ratio",
    "dice",
    "loaded-dice",
    "second-order-expansion",
    "clipped",
    "discovered",
]
ActivationName = Literal["relu", "tanh"]
CoreName = Literal["gru", "lstm", "transformer", "linear"]
InitialisationName = Literal["bias-hyperinit", "kaiming", "normc", "hyperfan-in"]
OuterOptimizerName = Literal["trust-region", "adam"]
DecoderName = Literal["transition", "reward-per-state"]

STEPS_AT_ONCE = 256  # of trials whose gradients are computed together on a CPU

SURROGATES: Mapping[str, surrogates.Surrogate] = {
    "score-function": surrogates.score_function,
    "likelihood-ratio": surrogates.likelihood_ratio,
    "dice": surrogates.dice,
    "loaded-dice": surrogates.loaded_dice,
    "second-order-expansion": surrogates.second_order_expansion,
    "clipped": surrogates.clipped(0.2),
    "discovered": surrogates.discovered(),
}
ACTIVATIONS: Mapping[str, Any] = {"relu": nn.relu, "tanh": nn.tanh}
INITIALISATIONS: Mapping[str, hypernetwork.Initialisation] = {
    "bias-hyperinit": hypernetwork.bias_hyperinit,
    "kaiming": hypernetwork.kaiming,
    "normc": hypernetwork.normc,
    "hyperfan-in": hypernetwork.hyperfan_in,
}


@dataclass(frozen=True)
class Mlp:
    """A policy without memory.

    Attributes:
      hidden_sizes: widths of the policy's hidden layers.
      activation: nonlinearity of the policy.
    """

    hidden_sizes: tuple[int, ...] = (64, 64)
    activation: ActivationName = "tanh"

    def make(self, tasks: TaskDistribution, trial_length: int, **kwargs: Any) -> Policy:
        """Makes the policy; further arguments are those of `mlp_policy`."""
        del trial_length
        check_choice(tuple(ACTIVATIONS), activation=self.activation)
        return mlp_policy(
            tasks,
            hidden_sizes=self.hidden_sizes,
            activation=ACTIVATIONS[self.activation],
            **kwargs,
        )


@dataclass(frozen=True)
class Memory:
    """A policy that remembers what it saw, did and got.

    Attributes:
      core: what the policy remembers with.
      size: of its state.
      hidden_sizes: widths of the layers between what is remembered and the actions.
      show_time: tell the policy how much of the trial is over.
      whole_transitions: show it with every step what it saw before its last action, too
        (arXiv 2206.06614).
    """

    core: CoreName = "gru"
    size: int = 64
    hidden_sizes: tuple[int, ...] = ()
    show_time: bool = False
    whole_transitions: bool = False

    def make(self, tasks: TaskDistribution, trial_length: int, **kwargs: Any) -> Policy:
        """Makes the policy for trials of so many steps; arguments are the head's."""
        check_flags(show_time=self.show_time)
        return memory_policy(
            tasks,
            core_named(self.core, size=self.size, context=trial_length),
            time_scale=trial_length if self.show_time else None,
            whole_transitions=self.whole_transitions,
            hidden_sizes=self.hidden_sizes,
            **kwargs,
        )


@dataclass(frozen=True)
class Hypernetwork:
    """A policy whose weights are decided by what it remembers (arXiv 2309.14970).

    Attributes:
      core: what the policy remembers with.
      size: of its state.
      hidden_sizes: widths of the layers between the observation and the actions.
      initialisation: of the hypernetwork.
    """

    core: CoreName = "gru"
    size: int = 64
    hidden_sizes: tuple[int, ...] = ()
    initialisation: InitialisationName = "bias-hyperinit"

    def make(self, tasks: TaskDistribution, trial_length: int, **kwargs: Any) -> Policy:
        """Makes the policy for trials of so many steps; arguments are the head's."""
        check_choice(tuple(INITIALISATIONS), initialisation=self.initialisation)
        return hypernetwork_policy(
            tasks,
            core_named(self.core, size=self.size, context=trial_length),
            initialisation=INITIALISATIONS[self.initialisation],
            hidden_sizes=self.hidden_sizes,
            **kwargs,
        )


@dataclass(frozen=True)
class Tabular:
    """A table, for tasks that show the number of a state."""

    def make(self, tasks: TaskDistribution, trial_length: int, **kwargs: Any) -> Policy:
        """Makes the policy; further arguments are those of `tabular_policy`."""
        del trial_length
        return tabular_policy(tasks, **kwargs)


PolicySettings = Mlp | Memory | Hypernetwork | Tabular
POLICIES: Mapping[str, PolicySettings] = {
    "mlp": Mlp(),
    "memory": Memory(),
    "hypernetwork": Hypernetwork(),
    "tabular": Tabular(),
}


@dataclass(frozen=True)
class Rounds:
    """How much is collected to adapt to.

    Attributes:
      num_tasks: tasks in a meta-training step.
      num_episodes: episodes of each task before and after adaptation.
    """

    num_tasks: int = 20
    num_episodes: int = 20


@dataclass(frozen=True)
class Adaptation:
    """Adaptation by policy gradients.

    Attributes:
      num_inner_steps: adaptation steps in meta-training.
      inner_lr: size of the first adaptation step; later ones are half of it.
      inner_surrogate: what an adaptation step ascends.
      discount: discount factor per step.
      gae_lambda: exponent of the advantages' average.
      task_group_size: tasks whose gradients are computed at once; by default one on a
        CPU, all elsewhere.
    """

    num_inner_steps: int = 1
    inner_lr: float = 0.1
    inner_surrogate: SurrogateName = "likelihood-ratio"
    discount: float = 0.99
    gae_lambda: float = 1.0
    task_group_size: int | None = None

    def arguments(self, num_tasks: int) -> dict[str, Any]:
        """Returns what a gradient-based algorithm takes, for so many tasks."""
        return {
            "num_tasks": num_tasks,
            "num_inner_steps": self.num_inner_steps,
            "inner_optimizer": inner_sgd(self.inner_lr),
            "inner_surrogate": surrogate_named(self.inner_surrogate),
            "discount": self.discount,
            "gae_lambda": self.gae_lambda,
            "task_group_size": group_size_for_device(self.task_group_size, num_tasks),
        }


@dataclass(frozen=True)
class MetaGradient:
    """What is kept of adaptation where the meta-gradient goes through it.

    Attributes:
      differentiation: what the meta-gradient keeps of each inner step and what it
        computes again; all but plain add little but the data of further steps.
    """

    differentiation: DifferentiationName = "plain"


@dataclass(frozen=True)
class OuterUpdate:
    """The meta-update.

    Attributes:
      outer_optimizer: the meta-update.
      max_kl: divergence of a trust-region step in nats.
      outer_lr: learning rate of Adam.
    """

    outer_optimizer: OuterOptimizerName = "trust-region"
    max_kl: float = 0.01
    outer_lr: float = 1e-3

    def make(self) -> optax.GradientTransformation | TrustRegion:
        """Makes the update.

        The trust region measures its metric on a tenth of the steps, before and after
        adaptation; the line search uses all of them.

        Raises:
          ValueError: if a step size is not above 0, or there is no such update.
        """
        check_choice(("trust-region", "adam"), outer_optimizer=self.outer_optimizer)
        check_above_zero(max_kl=self.max_kl, outer_lr=self.outer_lr)
        if self.outer_optimizer == "adam":
            return optax.adam(self.outer_lr)
        return TrustRegion(
            max_kl=self.max_kl, before_strides=(2, 5), after_strides=(1, 10)
        )


@dataclass(frozen=True)
class Trials:
    """How much is collected of trials, through which a memory lives.

    Attributes:
      num_tasks: trials in a meta-training step, each of another task.
      num_episodes: episodes of a trial.
    """

    num_tasks: int = 128
    num_episodes: int = 4

    def __post_init__(self):
        """Checks the counts, of which lengths are made."""
        check_positive(num_tasks=self.num_tasks, num_episodes=self.num_episodes)


@dataclass(frozen=True)
class Lives:
    """How much agents act from update to update, in lives that go on.

    Attributes:
      num_tasks: lives side by side, each in a task.
      num_episodes: streams of episodes in which each agent acts side by side.
      rollout_length: steps of each stream from update to update.
    """

    num_tasks: int = 64
    num_episodes: int = 16
    rollout_length: int = 20

    def arguments(self) -> dict[str, Any]:
        """Returns what an algorithm of lives takes."""
        return {
            "num_tasks": self.num_tasks,
            "num_episodes": self.num_episodes,
            "rollout_length": self.rollout_length,
        }


@dataclass(frozen=True)
class PPO:
    """Updates by clipped ratios, of trials.

    Attributes:
      num_epochs: passes through one step's trials.
      num_minibatches: updates in a pass.
      lr: first learning rate of Adam; it falls linearly to a fiftieth.
      decay_steps: meta-training steps until it has fallen.
      clip_range: a probability ratio has no gradient beyond 1 plus or minus this.
      value_coeff: weight of the squared value error relative to the returns' variance.
      value_scale: how large returns are: the unit in which values are learned.
      discount: discount factor per step, across episode ends.
      gae_lambda: exponent of the advantages' average, likewise.
    """

    num_epochs: int = 4
    num_minibatches: int = 4
    lr: float = 2e-3
    decay_steps: int = 2000
    clip_range: float = 0.2
    value_coeff: float = 0.5
    value_scale: float = 1.0
    discount: float = 0.99
    gae_lambda: float = 0.95

    def __post_init__(self):
        """Checks the counts, of which a number of updates is made."""
        check_positive(
            num_epochs=self.num_epochs,
            num_minibatches=self.num_minibatches,
            decay_steps=self.decay_steps,
        )

    def arguments(self) -> dict[str, Any]:
        """Returns what an algorithm of trials takes."""
        return {
            "num_epochs": self.num_epochs,
            "num_minibatches": self.num_minibatches,
            "outer_optimizer": decaying_adam(
                self.lr,
                decay_steps=self.decay_steps,
                updates_per_step=self.num_epochs * self.num_minibatches,
            ),
            "clip_range": self.clip_range,
            "value_coeff": self.value_coeff,
            "discount": self.discount,
            "gae_lambda": self.gae_lambda,
        }


@dataclass(frozen=True)
class Belief:
    """A belief about the task that is inferred, and what it is learned by.

    Attributes:
      core: what the encoder remembers with.
      size: of its state.
      latent_size: numbers that the belief is about.
      decoder: what a belief predicts: the reward of a transition, or of each state
        where it is told which is observed.
      decoder_hidden_sizes: widths of the hidden layers of the decoder.
      num_belief_epochs: the encoder's and the decoder's passes.
      num_bounds: of how many of a trial's beliefs at most the likelihood is computed;
        none: of all.
      num_decoded: how many of its steps at most are decoded; none: all.
      belief_lr: first learning rate of their Adam; it falls as the policy's does.
      kl_coeff: weight of what the belief learns in a step, against the likelihood.
      policy_moves_encoder: whether the policy's gradient flows into the encoder.
    """

    core: CoreName = "gru"
    size: int = 64
    latent_size: int = 5
    decoder: DecoderName = "transition"
    decoder_hidden_sizes: tuple[int, ...] = (32, 32)
    num_belief_epochs: int = 1
    num_bounds: int | None = 50
    num_decoded: int | None = 50
    belief_lr: float = 5e-3
    kl_coeff: float = 0.1
    policy_moves_encoder: bool = False

    def __post_init__(self):
        """Checks what is not checked where it is used."""
        counts = {"num_bounds": self.num_bounds, "num_decoded": self.num_decoded}
        counts = {name: count for name, count in counts.items() if count is not None}
        check_positive(num_belief_epochs=self.num_belief_epochs, **counts)
        check_sizes(decoder_hidden_sizes=self.decoder_hidden_sizes)

    def arguments(
        self, tasks: TaskDistribution, policy: PolicySettings, trials: Trials, ppo: PPO
    ) -> dict[str, Any]:
        """Returns what VariBAD takes; the critic is another policy of its kind.

        Raises:
          ValueError: if there is no such core or decoder, or observations are not of
            one state among many where the decoder asks for that.
        """
        trial_length = trials.num_episodes * tasks.horizon
        critic = None  # a policy with memory is refused by the algorithm
        if isinstance(policy, Mlp):
            critic = policy.make(
                tasks, trial_length, value_head=True, value_scale=ppo.value_scale
            )
        return {
            "policy": policy.make(tasks, trial_length),
            "core": core_named(self.core, size=self.size, context=trial_length),
            "latent_size": self.latent_size,
            "decoder": _decoder_named(self.decoder, tasks, self.decoder_hidden_sizes),
            "critic": critic,
            "num_tasks": trials.num_tasks,
            "num_episodes": trials.num_episodes,
            "num_belief_epochs": self.num_belief_epochs,
            "num_bounds": self.num_bounds and min(self.num_bounds, trial_length + 1),
            "num_decoded": self.num_decoded and min(self.num_decoded, trial_length),
            "belief_optimizer": decaying_adam(
                self.belief_lr,
                decay_steps=ppo.decay_steps,
                updates_per_step=self.num_belief_epochs * ppo.num_minibatches,
                name="belief_lr",
            ),
            "kl_coeff": self.kl_coeff,
            "policy_moves_encoder": self.policy_moves_encoder,
            **ppo.arguments(),
        }


def _decoder_named(
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
    return reward_per_state_decoder(tasks, hidden_sizes=hidden_sizes)


def surrogate_named(name: SurrogateName) -> surrogates.Surrogate:
    """Returns the meta-gradient estimator of that name."""
    check_choice(tuple(SURROGATES), inner_surrogate=name)
    return SURROGATES[name]


def inner_sgd(inner_lr: float) -> optax.GradientTransformation:
    """Makes gradient steps of α, then of α/2 after the first.

    The steps at which Finn et al. 2017 (arXiv 1703.03400, appendix A.2) test.

    Raises:
      ValueError: if α is not above 0.
    """
    check_above_zero(inner_lr=inner_lr)
    return optax.sgd(optax.piecewise_constant_schedule(inner_lr, {1: 0.5}))


def adam(**lr: float) -> optax.GradientTransformation:
    """Makes Adam; the learning rate is named so that a refusal names it.

    Raises:
      ValueError: if it is not above 0.
    """
    check_above_zero(**lr)
    (value,) = lr.values()
    return optax.adam(value)


def clipped_adam(**lr: float) -> optax.GradientTransformation:
    """Makes Adam for PPO (`metarl_jax.updates.clipped_adam`), likewise.

    Raises:
      ValueError: if the learning rate is not above 0.
    """
    check_above_zero(**lr)
    (value,) = lr.values()
    return updates.clipped_adam(value)


def group_size_for_device(task_group_size: int | None, num_tasks: int) -> int | None:
    """Chooses how many tasks' gradients are computed at once.

    Args:
      task_group_size: the user's choice; None for one task at a time on a CPU, where
        its activations stay in cache, and all at once elsewhere.
      num_tasks: N.

    Returns:
      The `task_group_size` an algorithm takes.
    """
    if task_group_size is not None:
        return task_group_size
    return 1 if jax.default_backend() == "cpu" else num_tasks


def trials_for_device(
    task_group_size: int | None, policy: Policy, length: int
) -> int | None:
    """Chooses how many trials' gradients are computed at once.

    Args:
      task_group_size: the user's choice; None: on a CPU, where a memory takes all steps
        of a trial at once, so few that their activations stay in cache; elsewhere all.
      policy: with memory.
      length: L, steps of a trial.

    Returns:
      The `task_group_size` an algorithm of trials takes.
    """
    if task_group_size is not None or jax.default_backend() != "cpu":
        return task_group_size
    at_once = isinstance(getattr(policy, "core", None), (Transformer, LinearRecurrent))
    return max(2, STEPS_AT_ONCE // length) if at_once else None


def core_named(name: CoreName, *, size: int, context: int) -> Core:
    """Makes what a policy with memory remembers with.

    Args:
      name: of the architecture.
      size: of its state; a transformer's is that of the residual stream.
      context: how many steps a transformer looks back; others have no limit.

    Raises:
      ValueError: if the size is below 1, or not what the architecture needs.
    """
    check_choice(("gru", "lstm", "transformer", "linear"), core=name)
    check_positive(size=size, context=context)
    if name == "transformer":
        return Transformer(size, context=context)
    if name == "linear":
        return LinearRecurrent(size, size)
    return {"gru": GRU, "lstm": LSTM}[name](size)


def decaying_adam(
    lr: float, *, decay_steps: int, updates_per_step: int, name: str = "lr"
) -> optax.GradientTransformation:
    """Makes Adam for PPO, its learning rate falling linearly to a fiftieth.

    Gradients are clipped to a norm of 0.5.

    Args:
      lr: the first learning rate.
      decay_steps: meta-training steps until it has fallen.
      updates_per_step: optimiser updates in a meta-training step.
      name: what a refusal calls the learning rate.

    Raises:
      ValueError: if a size is not above 0.
    """
    check_above_zero(**{name: lr})
    check_positive(decay_steps=decay_steps, updates_per_step=updates_per_step)
    check_positive(updates_of_decay_steps=decay_steps * updates_per_step)
    schedule = optax.linear_schedule(lr, lr / 50, decay_steps * updates_per_step)
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(schedule, eps=1e-5))


def decaying(decay_steps: int, **coeff: float) -> optax.Schedule:
    """Returns a weight that falls linearly to zero in so many meta-training steps.

    Raises:
      ValueError: if it is negative.
    """
    check_not_negative(**coeff)
    check_positive(decay_steps=decay_steps)
    (value,) = coeff.values()
    return optax.linear_schedule(value, 0.0, decay_steps)
