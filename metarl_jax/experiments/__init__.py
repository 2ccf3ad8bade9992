"""The published experiments: a world, a method, and what differs."""
