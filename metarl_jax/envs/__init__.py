"""Task families: one file each, the task always in `EnvParams`."""
