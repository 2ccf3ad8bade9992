"""Classical learners: what is known about a family of tasks, solved in advance."""
