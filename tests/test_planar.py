"""The planar engine beside MuJoCo, the laws of mechanics and loops in plain numpy."""

import importlib.resources
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.locomotion import ROBOTS
from metarl_jax.envs.planar import in_mujoco, variation
from metarl_jax.envs.planar.inertia import capsule_inertia, capsule_mass
from metarl_jax.envs.planar.mjcf import Geom
from metarl_jax.envs.planar.model import read
from metarl_jax.envs.planar.motion import acceleration, move
from metarl_jax.envs.planar.sparse import ancestors, solve

ALL = sorted(ROBOTS)


def text(robot):
    assets = importlib.resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    return (assets / ROBOTS[robot].xml).read_text()


@cache
def robot(name):
    return read(text(name))


def simulator(name):
    """MuJoCo's model of a robot without contacts and limits, and its state."""
    mujoco = pytest.importorskip("mujoco", reason="the extra [mujoco]")
    model = mujoco.MjModel.from_xml_string(text(name))
    bits = mujoco.mjtDisableBit
    model.opt.disableflags |= bits.mjDSBL_CONTACT | bits.mjDSBL_LIMIT
    return mujoco, model, mujoco.MjData(model)


def of_another_body(rng, tree, physics, model):
    """Changes all that a task may change, here and in MuJoCo's model."""
    links, joints = tree.num_links, tree.num_links + 2

    def by(*shape):
        return np.exp(rng.uniform(-0.7, 0.7, shape))

    new = physics._replace(
        anchor=physics.anchor + rng.uniform(-0.1, 0.1, (links, 2)),
        centre=physics.centre + rng.uniform(-0.1, 0.1, (links, 2)),
        mass=physics.mass * by(links),
        inertia=physics.inertia * by(links)[:, None],
        armature=physics.armature * by(joints) + 0.1 * rng.uniform(size=joints),
        damping=physics.damping * by(joints) + rng.uniform(size=joints),
        stiffness=physics.stiffness * by(joints) + rng.uniform(size=joints),
        gear=physics.gear * by(len(tree.motors)),
        gravity=physics.gravity * by(),
        density=physics.density * by(),
        viscosity=physics.viscosity * by(),
    )
    in_mujoco.put(model, tree, new)
    return new


@pytest.mark.parametrize("name", ALL)
def test_accelerations_are_mujoco_s_in_every_pose_and_of_every_body(name):
    mujoco, model, data = simulator(name)
    tree, physics = robot(name)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        ours = jax.jit(partial(acceleration, tree, floor=False, limits=False))
        for i in range(40):
            if i:
                mujoco, model, data = simulator(name)
                physics = of_another_body(rng, *robot(name), model)
            data.qpos[:] = 2 * rng.normal(size=model.nq)
            data.qvel[:] = 5 * rng.normal(size=model.nv)
            data.ctrl[:] = rng.uniform(-1, 1, model.nu)
            mujoco.mj_forward(model, data)
            got = ours(physics, data.qpos.copy(), data.qvel.copy(), data.ctrl.copy())
            np.testing.assert_allclose(got, data.qacc, rtol=1e-8, atol=1e-6)


def middles(tree, physics, position):
    """Where the links' middles are, `[N, 2]`, and their angles: a loop over them."""

    def turn(angle):
        c, s = jnp.cos(angle), jnp.sin(angle)
        return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])

    found, angles, joints = [], [], []
    for i, parent in enumerate(tree.parents):
        angle = tree.signs[i] * (position[i + 2] - tree.at_rest[i + 2])
        angle = angle if parent < 0 else angle + angles[parent]
        if parent < 0:
            joint = physics.anchor[0] + position[:2] - jnp.asarray(tree.at_rest[:2])
        else:
            joint = joints[parent] + turn(angles[parent]) @ physics.anchor[i]
        angles.append(angle)
        joints.append(joint)
        found.append(joint + turn(angle) @ physics.centre[i])
    return jnp.stack(found), jnp.stack(angles)


def energy(tree, physics, position, velocity):
    """Kinetic and potential energy, from where the links are."""
    (places, _), (speeds, spins) = jax.jvp(
        partial(middles, tree, physics), (position,), (velocity,)
    )
    kinetic = 0.5 * jnp.sum(physics.mass[:, None] * speeds**2)
    kinetic += 0.5 * jnp.sum(physics.inertia[:, 2] * spins**2)
    kinetic += 0.5 * jnp.sum(physics.armature * velocity**2)
    height = jnp.sum(physics.mass * places[:, 1]) if tree.has_gravity else 0.0
    springs = 0.5 * jnp.sum(physics.stiffness * position**2)
    return kinetic + physics.gravity * height + springs


@pytest.mark.parametrize("name", ALL)
def test_without_damping_energy_is_conserved(name):
    """It drifts by the length of a step alone: in steps half as long, half as far."""
    tree, physics = robot(name)
    physics = physics._replace(damping=0 * physics.damping, density=0.0, viscosity=0.0)
    rng = np.random.default_rng(1)
    links = tree.num_links
    with jax.enable_x64(True):
        start = jnp.asarray(np.asarray(tree.at_rest) + 0.3 * rng.normal(size=links + 2))
        speed = jnp.asarray(rng.normal(size=links + 2))
        still = jnp.zeros(len(tree.motors))

        def drift(step):
            def one(state, _):
                state = move(
                    *(tree, physics, *state, still),
                    **{"seconds": step, "num_substeps": 1},
                    **{"floor": False, "limits": False},
                )
                return state, energy(tree, physics, *state)

            _, energies = jax.lax.scan(one, (start, speed), length=1000)
            first = energy(tree, physics, start, speed)
            within = step * jnp.arange(1, 1001) < 0.2001
            return jnp.max(jnp.abs(energies - first), where=within, initial=0.0) / first

        coarse, fine = jax.jit(jax.vmap(drift))(jnp.asarray([4e-4, 2e-4])).tolist()
    assert 1e-8 < fine < 2e-3
    np.testing.assert_allclose(coarse / fine, 2.0, rtol=0.05)


def rate_of_momentum(tree, physics, position, velocity, acceleration):
    """The derivative of the whole momentum, `[2]`."""

    def momentum(position, velocity):
        return jax.jvp(first_moment, (position,), (velocity,))[1]

    def first_moment(position):
        places, _ = middles(tree, physics, position)
        return physics.mass @ places

    return jax.jvp(momentum, (position, velocity), (velocity, acceleration))[1]


@pytest.mark.parametrize("name", ["half-cheetah", "walker", "hopper"])
def test_momentum_changes_by_gravity_alone_in_the_air(name):
    tree, physics = robot(name)
    rng = np.random.default_rng(2)
    with jax.enable_x64(True):
        q, v = jnp.asarray(rng.normal(size=(2, tree.num_links + 2)))
        action = jnp.asarray(rng.uniform(-1, 1, len(tree.motors)))
        a = jax.jit(partial(acceleration, tree, floor=False))(physics, q, v, action)
        rate = rate_of_momentum(tree, physics, q, v, a)
        weight = physics.mass.sum() * physics.gravity
        np.testing.assert_allclose(rate, [0.0, -weight], atol=1e-9 * weight)


def test_a_capsule_s_mass_and_inertia_are_those_of_its_grains():
    geom = Geom("", np.zeros(3), np.array([0.0, 0.0, 1.0]), 0.3, 0.2, 700.0, 1.0, True)
    rng = np.random.default_rng(0)
    grains = rng.uniform([-0.2, -0.2, -0.5], [0.2, 0.2, 0.5], (400_000, 3))
    beyond = np.maximum(np.abs(grains[:, 2]) - 0.3, 0)
    inside = grains[grains[:, 0] ** 2 + grains[:, 1] ** 2 + beyond**2 <= 0.04]
    grain = 700.0 * 0.4 * 0.4 * 1.0 / len(grains)
    np.testing.assert_allclose(capsule_mass(geom), grain * len(inside), rtol=0.01)
    along, across = capsule_inertia(geom)
    np.testing.assert_allclose(along, grain * (inside[:, :2] ** 2).sum(), rtol=0.01)
    np.testing.assert_allclose(across, grain * (inside[:, 1:] ** 2).sum(), rtol=0.01)


def test_a_tree_s_equations_are_solved_as_dense_ones_are():
    parents = [-1, 0, 1, 2, 3, 2, 5, 5]
    rng = np.random.default_rng(0)
    dense = np.diag(rng.uniform(5, 6, 8))
    for i in range(8):
        for j in ancestors(parents, i):
            dense[i, j] = dense[j, i] = rng.normal()
    right = rng.normal(size=8)
    sparse = {(i, j): dense[i, j] for i in range(8) for j in range(i + 1)}
    got = solve({key: sparse[key] for key in sparse if sparse[key]}, right, parents)
    np.testing.assert_allclose(got, np.linalg.solve(dense, right), rtol=1e-9)


def settled(name, seconds, num_substeps):
    tree, physics = robot(name)
    rest = jnp.asarray(tree.at_rest, jnp.float32)
    still = jnp.zeros(len(tree.motors))

    def one(state, _):
        new = move(
            *(tree, physics, *state, still), seconds=seconds, num_substeps=num_substeps
        )
        return new, None

    start = rest, jnp.zeros_like(rest)
    steps = round(8 / seconds)
    return jax.jit(lambda: jax.lax.scan(one, start, length=steps)[0])()


def test_a_half_cheetah_stands_as_in_mujoco():
    mujoco = pytest.importorskip("mujoco", reason="the extra [mujoco]")
    model = mujoco.MjModel.from_xml_string(text("half-cheetah"))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, nstep=800)
    position, velocity = settled("half-cheetah", 0.05, 8)
    np.testing.assert_allclose(position[1:], data.qpos[1:], atol=0.002)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-3)


def test_the_floor_carries_the_weight_and_rubs_by_it():
    """The middle of all masses moves by the floor's forces and gravity alone."""
    tree, physics = robot("half-cheetah")
    position, velocity = settled("half-cheetah", 0.05, 8)
    still = jnp.zeros(6)

    def middle_s_acceleration(velocity):
        change = acceleration(tree, physics, position, velocity, still)
        rate = rate_of_momentum(tree, physics, position, velocity, change)
        return rate / physics.mass.sum()

    at_rest = middle_s_acceleration(velocity)
    np.testing.assert_allclose(at_rest, 0.0, atol=0.05)
    # All of it slides: friction is μ times the weight, against the motion.
    for speed in (1.0, -1.0):
        sliding = middle_s_acceleration(velocity.at[0].add(speed))
        expected = [-speed * 0.4 * 9.81, 0.0]
        np.testing.assert_allclose(sliding, expected, atol=0.05)


@pytest.mark.parametrize("name", ALL)
def test_robots_of_extreme_bodies_stay_finite(name):
    tree, physics = robot(name)
    physics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), physics)
    changed = ("mass", "inertia", "damping", "stiffness", "armature", "friction")
    changed += ("gear", "gravity", "density", "viscosity")
    robots = 8

    def extreme(key):
        keys = jax.random.split(key, len(changed))
        scaled = {
            name: getattr(physics, name)
            * 10.0 ** jax.random.uniform(key, getattr(physics, name).shape, minval=-1)
            for key, name in zip(keys, changed, strict=True)
        }
        return physics._replace(**scaled)

    robot_move = partial(move, tree, seconds=ROBOTS[name].seconds, num_substeps=4)

    def run(key):
        bodies = jax.vmap(extreme)(jax.random.split(key, robots))
        rest = jnp.tile(jnp.asarray(tree.at_rest, jnp.float32), (robots, 1))

        def one(state, key):
            shape = (robots, len(tree.motors))
            action = jnp.sign(jax.random.normal(key, shape))
            return jax.vmap(robot_move)(bodies, *state, action), None

        start = rest, jnp.zeros_like(rest)
        return jax.lax.scan(one, start, jax.random.split(key, 500))[0]

    position, velocity = jax.jit(run)(jax.random.key(0))
    assert np.isfinite(position).all()
    assert np.isfinite(velocity).all()
    assert np.abs(velocity).max() > 0.1


def test_random_parameters_are_within_their_powers():
    _, physics = robot("walker")
    keys = jax.random.split(jax.random.key(0), 500)
    drawn = jax.vmap(
        partial(variation.random_parameters, physics=physics, log_scale=3.0)
    )(keys)
    for name, base in (("mass", 1.5), ("friction", 1.5), ("damping", 1.3)):
        value = getattr(physics, name)
        power = np.log(getattr(drawn, name)[:, value > 0] / value[value > 0])
        power /= np.log(base)
        assert -3 <= power.min() < -2.9
        assert 2.9 < power.max() <= 3.001
        # Each by a factor of its own.
        assert np.abs(np.corrcoef(power.T) - np.eye(power.shape[1])).max() < 0.2
    np.testing.assert_array_equal(drawn.gear[0], physics.gear)


def test_a_longer_link_moves_what_hangs_on_it():
    tree, physics = robot("walker")
    scale = np.ones(tree.num_links)
    scale[1] = 2.0
    with jax.enable_x64(True):
        new = jax.tree.map(np.asarray, variation.lengthened(tree, physics, scale))
    # The right thigh is link 1: the knee hangs on it, and it touches there.
    np.testing.assert_allclose(new.anchor[2], 2 * physics.anchor[2])
    np.testing.assert_allclose(new.anchor[[0, 1, 3, 4]], physics.anchor[[0, 1, 3, 4]])
    np.testing.assert_allclose(new.inertia[1] / physics.inertia[1], [2, 8, 8])
    at = tree.contacts.index(1)
    np.testing.assert_allclose(new.point[at], 2 * physics.point[at])
    others = [i for i, link in enumerate(tree.contacts) if link != 1]
    np.testing.assert_allclose(new.point[others], physics.point[others])


@pytest.mark.parametrize(
    ("robot_name", "old", "new", "message"),
    [
        ("swimmer", 'type="capsule"', 'type="box"', "a geom of type box"),
        ("swimmer", '<body name="mid"', '<body quat="1 0 0 0" name="mid"', "turned"),
        ("swimmer", 'ctrlrange="-1 1"', 'ctrlrange="-2 1"', "control range"),
        (
            "swimmer",
            'name="slider2" pos="0 0 0" type="slide"',
            'name="a"',
            "two slides",
        ),
        ("hopper", 'axis="0 -1 0" name="leg', 'axis="1 0 0" name="leg', "across"),
        ("hopper", 'pos="0 0 -0.225', 'pos="0 0.1 -0.225', "in the plane"),
        ("hopper", "<actuator>", "<tendon><fixed/></tendon><actuator>", "tendon"),
    ],
)
def test_what_is_no_planar_tree_is_refused(robot_name, old, new, message):
    model = text(robot_name)
    assert old in model
    with pytest.raises(ValueError, match=message):
        read(model.replace(old, new))


def test_both_legs_of_a_walker_touch_the_floor():
    tree, _ = robot("walker")
    assert {3, 6} <= set(tree.contacts)
    assert tree.contacts.count(3) == tree.contacts.count(6) == 2
