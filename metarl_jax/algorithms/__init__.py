"""Meta-learning algorithms: one flat file each, made to be read and pasted."""
