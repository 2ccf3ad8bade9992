"""`python -m metarl_jax.cli`."""

import sys

from metarl_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
