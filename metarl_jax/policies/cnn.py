"""What networks make of images: vectors."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from metarl_jax.types import TaskDistribution
from metarl_jax.validation import check_positive, check_sizes, check_tasks


class CNN(nn.Module):
    """Convolutions, then a layer, `[..., H, W, C] -> [..., size]`.

    What is joined to an image (`metarl_jax.spaces.join`) comes as further
    channels, the same everywhere.

    Attributes:
      channels: of each convolution's output.
      kernel_size: along a side, pixels.
      stride: pixels from one output to the next.
      size: of the layer that all of the last convolution's outputs are an input of.
    """

    channels: Sequence[int] = (16, 32, 32)
    kernel_size: int = 3
    stride: int = 2
    size: int = 64

    def __post_init__(self):
        """Checks the attributes."""
        check_sizes(channels=self.channels)
        check_positive(kernel_size=self.kernel_size, stride=self.stride, size=self.size)
        super().__post_init__()

    @nn.compact
    def __call__(self, x):
        """Returns the features."""
        x = x.astype(jnp.float32)
        kernel, strides = (self.kernel_size,) * 2, (self.stride,) * 2
        for i, channels in enumerate(self.channels):
            x = nn.relu(nn.Conv(channels, kernel, strides, name=f"conv_{i}")(x))
        x = x.reshape(*x.shape[:-3], -1)
        return nn.relu(nn.Dense(self.size, name="features")(x))


def image_encoder(tasks: TaskDistribution) -> Any:
    """Returns a `CNN` where what a policy sees is an image `[H, W, C]`, or None."""
    check_tasks(tasks)
    obs = tasks.observation
    return CNN() if isinstance(obs, jax.ShapeDtypeStruct) and obs.ndim == 3 else None
