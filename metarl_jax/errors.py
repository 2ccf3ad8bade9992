"""What goes wrong on the host; known without JAX."""


class SimulatorError(RuntimeError):
    """What a simulator on the host raised, or what was asked of it out of turn."""
