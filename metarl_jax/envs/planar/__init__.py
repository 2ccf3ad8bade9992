"""Robots that move in a plane, read from MuJoCo's models, as pure functions.

| file | what |
|---|---|
| `mjcf.py` | a model's file, as records |
| `inertia.py` | mass and inertia of capsules and spheres |
| `model.py` | the tree, and the physics that a task may change |
| `variation.py` | other bodies of the same robot |
| `dynamics.py` | kinematics, mass matrix and bias forces |
| `elements.py` | forces along a direction of motion, linear in what is to come |
| `forces.py` | motors, springs, limits, the floor and a fluid |
| `sparse.py` | equations with the tree's own zeros |
| `motion.py` | accelerations and steps |

A tree of N links has N + 2 degrees of freedom: where the root is and the angle of every
link. Everything is unrolled where it is traced, one number a degree of freedom, so that
a batch of robots is a fused loop over arrays.
"""
