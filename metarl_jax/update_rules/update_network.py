"""The network that a discovered rule is: `metarl_jax.update_rules.disco` says of what.

It reads a batch of trajectories, `[B, T, ...]`, from their last step to their first.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.update_rules.disco import (
    PREDICTION_SIZE,
    Average,
    Experience,
    Predictions,
    RuleState,
    Targets,
    Values,
    averaged,
    moments,
    of_action,
    values,
)


def signed_log(x: jax.Array) -> jax.Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


class Mlp(nn.Module):
    """Linear layers with rectifiers between them."""

    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        """`[..., D] -> [..., sizes[-1]]`."""
        for i, size in enumerate(self.sizes):
            x = nn.Dense(size, name=f"layer_{i}")(x if i == 0 else nn.relu(x))
        return x


class AcrossActions(nn.Module):
    """Layers for each action, which see the mean over actions too."""

    sizes: tuple[int, ...]

    @nn.compact
    def __call__(self, x):
        """`[..., A, D] -> [..., A, sizes[-1]]`."""
        for i, size in enumerate(self.sizes):
            mean = jnp.broadcast_to(jnp.mean(x, axis=-2, keepdims=True), x.shape)
            both = jnp.concatenate([x, mean], axis=-1)
            x = nn.relu(nn.Dense(size, name=f"layer_{i}")(both))
        return x


class Lstm(nn.Module):
    """A long short-term memory whose forget gate is open by 1 more."""

    size: int

    def setup(self):
        """Declares the parameters."""
        self.gates = nn.Dense(4 * self.size)

    def __call__(self, state, x):
        """Takes `(hidden, cell)` and an input `[..., D]`; returns the next of both."""
        hidden, cell = state
        gates = self.gates(jnp.concatenate([x, hidden], axis=-1))
        write, new, keep, read = jnp.split(gates, 4, axis=-1)
        cell = nn.sigmoid(keep + 1.0) * cell + nn.sigmoid(write) * jnp.tanh(new)
        return nn.sigmoid(read) * jnp.tanh(cell), cell


class Reader(nn.Module):
    """What happened and was predicted, as a vector a step and one for each action."""

    def setup(self):
        """Declares the parameters."""
        self.y_net = Mlp((16, 1))
        self.z_net = Mlp((16, 1))
        self.action_net = AcrossActions((16, 2))

    def __call__(self, agent, target, experience, estimates, advantage):
        """Returns `[B, T, 27]` and `[B, T, A, 2]`.

        Args:
          agent: predictions `[B, T + 1]`.
          target: those of the slow copy.
          experience: what happened.
          estimates: `Values`.
          advantage: `Average` of the advantages, this batch's among them.
        """
        action = experience.action[:, :-1]
        mean, deviation = moments(advantage)
        behaviour = experience.behaviour_logits
        policies = [
            jax.lax.stop_gradient(jax.nn.softmax(logits))
            for logits in (agent.logits, behaviour, target.logits)
        ]
        pi, *_ = policies
        mine, slow, of_z, of_slow_z = (
            net(jax.nn.softmax(x))
            for net, x in [
                (self.y_net, agent.y),
                (self.y_net, target.y),
                (self.z_net, agent.z),
                (self.z_net, target.z),
            ]
        )

        def taken(x):
            return of_action(x[:, :-1], action)

        def pair(x):
            return jnp.concatenate([x[:, :-1], x[:, 1:]], axis=-1)

        def about(z):
            mean = jnp.sum(pi[..., None] * z, axis=2)
            return [taken(z), pair(mean), pair(jnp.max(z, axis=2))]

        steps = [
            taken(policies[0])[..., None],
            taken(policies[1])[..., None],
            signed_log(experience.reward)[..., None],
            1.0 - experience.ended[..., None],
            pair(signed_log(estimates.value)[..., None]),
            signed_log(estimates.advantage)[..., None],
            ((estimates.advantage - mean) / deviation)[..., None],
            taken(policies[2])[..., None],
            *(pair(mine), pair(slow)),
            *about(of_z),
            *about(of_slow_z),
        ]
        q_advantage = estimates.q_advantage
        each = [
            *(x[:, :-1, :, None] for x in policies),
            *(of_z[:, :-1], of_slow_z[:, :-1]),
            signed_log(estimates.target_q)[:, :-1, :, None],
            signed_log(q_advantage)[:, :-1, :, None],
            ((q_advantage - mean) / deviation)[:, :-1, :, None],
            jax.nn.one_hot(action, pi.shape[-1])[..., None],
        ]
        actions = self.action_net(jnp.concatenate(each, axis=-1))
        steps += [jnp.mean(actions, axis=2), of_action(actions, action)]
        return jnp.concatenate(steps, axis=-1), actions

    def read_y(self, y):
        """Returns what stands for predictions y, `[..., 600] -> [..., 1]`."""
        return self.y_net(jax.nn.softmax(y))


class Lifetime(nn.Module):
    """Goes once through all updates of an agent, by the mean over a batch's steps."""

    size: int

    def setup(self):
        """Declares the parameters."""
        self.reader = Reader()
        self.embed = Mlp((16,))
        self.lstm = Lstm(self.size)

    def __call__(self, state, read, embedding, y):
        """Returns the next `(hidden, cell)` `[H]`."""
        steps, _ = self.reader(*read)
        x = jnp.concatenate([steps, embedding, self.reader.read_y(y)], axis=-1)
        return self.lstm(state, jnp.mean(self.embed(x), axis=(0, 1)))


class UpdateNetwork(nn.Module):
    """The rule: from what happened and was predicted, what to predict.

    Of any number of actions; 754,778 parameters.
    """

    size: int = 256
    prediction_size: int = PREDICTION_SIZE
    lifetime_size: int = 128

    def setup(self):
        """Declares the parameters."""
        self.reader = Reader()
        self.backward = Lstm(self.size)
        self.modulation = nn.Dense(self.size)
        self.embedding = nn.Dense(1)
        self.y_target = nn.Dense(self.prediction_size)
        self.z_target = nn.Dense(self.prediction_size)
        self.action_net = AcrossActions((16,))
        self.policy_target = nn.Dense(1)
        self.lifetime = Lifetime(self.lifetime_size)

    def __call__(
        self,
        state: RuleState,
        agent: Predictions,
        target: Predictions,
        experience: Experience,
    ) -> tuple[Targets, Values, RuleState]:
        """Says what the predictions should have been.

        Args:
          state: of the agent's lifetime.
          agent: `[B, T + 1]`.
          target: `[B, T + 1]`, of a slow copy of the agent.
          experience: what happened.

        Returns:
          The targets, the values and the lifetime's next state.
        """
        estimates = jax.lax.stop_gradient(values(agent, target, experience))
        advantage = averaged(state.advantage, estimates.advantage)
        td_error = averaged(state.td_error, estimates.td_error)
        read = (agent, target, experience, estimates, advantage)
        steps, actions = self.reader(*read)
        x = self._backwards(steps, experience.ended) * self.modulation(state.hidden)
        embedding, y = self.embedding(x), self.y_target(x)
        spread = jnp.broadcast_to(x[:, :, None], (*actions.shape[:-1], x.shape[-1]))
        each = self.action_net(jnp.concatenate([spread, actions], axis=-1))
        targets = Targets(self.policy_target(each).squeeze(-1), y, self.z_target(x))
        memory = self.lifetime((state.hidden, state.cell), read, embedding, y)
        return targets, estimates, RuleState(*memory, advantage, td_error)

    def _backwards(self, steps, ended):
        """Unrolls from the last step to the first; nothing passes an episode's end."""

        def step(module, state, inputs):
            x, ends = inputs
            state = jax.tree.map(lambda s: jnp.where(ends[:, None], 0.0, s), state)
            state = module.backward(state, x)
            return state, state[0]

        zero = jnp.zeros((steps.shape[0], self.size), steps.dtype)
        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=True,
        )
        return scan(self, (zero, zero), (steps, ended))[1]

    def initial_state(self) -> RuleState:
        """Returns the state at the start of a lifetime."""
        zero, nothing = jnp.zeros(self.lifetime_size), jnp.zeros(())
        average = Average(nothing, nothing, jnp.ones(()))
        return RuleState(zero, zero, average, average)
