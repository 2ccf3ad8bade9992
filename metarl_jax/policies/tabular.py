"""Tables: a row of parameters for every state, where observations are numbers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax import spaces
from metarl_jax.distributions import Categorical
from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_flags, check_positive, check_tasks


class Table(nn.Module):
    """A row of numbers for every state, zero at first; `[...]` int to `[..., M]`.

    Attributes:
      num_states: S.
      output_size: M.
    """

    num_states: int
    output_size: int

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(num_states=self.num_states, output_size=self.output_size)
        super().__post_init__()

    @nn.compact
    def __call__(self, obs):
        """Returns the rows."""
        shape = (self.num_states, self.output_size)
        return self.param("table", nn.initializers.zeros, shape)[obs]


class TabularPolicy(nn.Module):
    """A softmax of logits of its own in every state, and maybe a value; no memory.

    Attributes:
      num_states: S.
      num_actions: A.
      value_head: whether there is a value of every state; otherwise it is zero.
    """

    num_states: int
    num_actions: int
    value_head: bool = False

    def __post_init__(self):
        """Checks the attributes."""
        check_positive(num_states=self.num_states, num_actions=self.num_actions)
        check_flags(value_head=self.value_head)
        super().__post_init__()

    @nn.compact
    def __call__(self, memory, obs):
        """Returns the action distribution, the value and the memory, unchanged."""
        logits = Table(self.num_states, self.num_actions, name="logits")(obs)
        value = jnp.zeros(jnp.shape(obs))
        if self.value_head:
            value = Table(self.num_states, 1, name="value")(obs)[..., 0]
        return Categorical(logits), value, memory

    def initial_memory(self):
        """Returns `()`: this policy remembers nothing."""
        return ()


def num_states(tasks: TaskDistribution) -> int | None:
    """Returns how many states a policy can be shown by number; None where it is not."""
    obs = tasks.observation
    is_number = isinstance(obs, jax.ShapeDtypeStruct) and obs.shape == ()
    if not is_number or not jnp.issubdtype(obs.dtype, jnp.integer):
        return None
    task = tasks.sample(jax.random.key(0))
    return spaces.num_choices(tasks.env.observation_space(task))


def tabular_policy(
    tasks: TaskDistribution, *, value_head: bool = False
) -> TabularPolicy:
    """Makes a table that fits a task family.

    Args:
      tasks: the family; a policy sees the number of a state.
      value_head: whether it has a value of every state.

    Raises:
      ValueError: if what a policy sees is not the number of a state, or actions are not
        discrete.
    """
    check_tasks(tasks)
    check_flags(value_head=value_head)
    states, actions = num_states(tasks), spaces.num_choices(tasks.action_space)
    if states is None or actions is None:
        raise ValueError(
            "a table needs tasks that show the number of a state and have discrete "
            f"actions; {tasks.env.name} shows {tasks.observation} and has "
            f"{tasks.action_space!r}"
        )
    return TabularPolicy(states, actions, value_head)
