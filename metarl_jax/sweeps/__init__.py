"""Sweeps: an experiment trained with many combinations of options, side by side."""
