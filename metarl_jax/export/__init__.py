"""A policy taken away: files by which an agent acts and adapts elsewhere."""
