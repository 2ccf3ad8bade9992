"""A run and its directory: what is trained, recorded, saved and evaluated."""
