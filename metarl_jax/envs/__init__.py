"""Task families: one file each, the task always in `EnvParams`.

A family is a factory `<family>(*, ...) -> TaskDistribution`. Its environment follows
the gymnax API, an episode's state holds only what time changes, and `gymnax_family`
turns any other gymnax environment into one.
"""

from metarl_jax import spaces as spaces  # loads gymnax
