"""The command `metarl-jax`, a file a command."""

from metarl_jax.cli.main import main as main
