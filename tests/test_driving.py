"""Driving, held to closed forms, to the models' own equilibria and to plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.envs.driving import bicycle, driver, measures, road, traffic, world
from metarl_jax.envs.driving.family import INSIDE, OUTSIDE, draw_task, driving_family
from metarl_jax.types import Trajectory

KEY = jax.random.key(0)
DRIVER = traffic.driver(jnp.asarray(0.4))


@pytest.mark.parametrize("rear_share", [0.3, 0.5])
@pytest.mark.parametrize("steering", [0.03, -0.2])
def test_constant_steering_drives_a_circle_of_the_right_radius(steering, rear_share):
    car = bicycle.Car(jnp.asarray(2.7), jnp.asarray(1.0), rear_share)

    def step(place, _):
        x, y, direction = place
        moved = bicycle.move(3.0, steering, 0.0, car, seconds=0.2)
        c, s = jnp.cos(direction), jnp.sin(direction)
        x = x + c * moved.forwards - s * moved.leftwards
        y = y + s * moved.forwards + c * moved.leftwards
        place = (x, y, direction + moved.turn)
        return place, jnp.stack(place)

    with jax.enable_x64(True):
        start = (jnp.zeros(()),) * 3
        places = np.asarray(jax.lax.scan(step, start, length=40)[1])
    # The circle through three points, and the rear axle's radius, L / tan δ.
    a, b, c = places[0, :2], places[15, :2], places[35, :2]
    sides = [np.linalg.norm(p - q) for p, q in ((a, b), (b, c), (c, a))]
    area = abs(np.cross(np.append(b - a, 0), np.append(c - a, 0))[2]) / 2
    radius = np.prod(sides) / (4 * area)
    rear = rear_share * 2.7
    expected = np.sqrt(rear**2 + (2.7 / np.tan(steering)) ** 2)
    np.testing.assert_allclose(radius, expected, rtol=1e-6)
    np.testing.assert_allclose(bicycle.turning_radius(steering, car), expected, 1e-6)
    assert np.sign(places[5, 2]) == np.sign(steering)


def test_friction_holds_the_acceleration_within_a_circle():
    rng = np.random.default_rng(0)
    speed = rng.uniform(0, 40, 500)
    steering, asked = rng.uniform(-0.5, 0.5, 500), rng.uniform(-12, 12, 500)
    friction = rng.uniform(0.2, 1.0, 500)

    def move(v, d, a, mu):
        return bicycle.move(v, d, a, bicycle.Car(2.7, mu), seconds=0.1)

    moved = jax.vmap(move)(speed, steering, asked, friction)
    total = np.hypot(moved.acceleration, moved.lateral)
    grip = friction * 9.81
    assert np.all(total <= grip * (1 + 1e-5))
    assert np.mean(np.abs(moved.lateral) > 0.999 * grip) > 0.3  # it slides
    # Where it holds, the turn is the steered one.
    held = np.abs(moved.lateral) < 0.99 * grip
    wheels = np.cos(np.arctan(0.5 * np.tan(steering))) * np.tan(steering) / 2.7
    lateral = speed**2 * wheels
    np.testing.assert_allclose(moved.lateral[held], lateral[held], rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize("curvature", [0.0, 1e-9, 0.006, -0.02])
def test_coordinates_along_an_arc_are_those_of_the_plane(curvature):
    offset, forwards, leftwards = 3.0, 5.0, -0.7
    with jax.enable_x64(True):
        moved = road.advance(*map(jnp.asarray, (curvature, offset, 5.0, -0.7)))
        along, left = map(float, moved)
    # Where that is in the plane, from the line's point (0, 0) in direction x.
    if abs(curvature) > 1e-8:
        angle = curvature * along
        centre = np.array([0.0, 1 / curvature])
        place = centre + (left - 1 / curvature) * np.array(
            [-np.sin(angle), np.cos(angle)]
        )
        np.testing.assert_allclose(place, [forwards, offset + leftwards], rtol=1e-6)
    else:
        np.testing.assert_allclose([along, left], [5.0, 2.3], rtol=1e-7)


def test_a_road_is_linear_between_knots_and_begins_again():
    knots = jnp.asarray([0.0, 0.004, -0.002])
    along = np.array([0.0, 30.0, 60.0, 90.0, 150.0, 180.0, 210.0])
    expected = [0.0, 0.002, 0.004, 0.001, -0.001, 0.0, 0.002]
    np.testing.assert_allclose(
        road.curvature_at(knots, jnp.asarray(along)), expected, atol=1e-8
    )
    # A whole circle comes back to where it began.
    way = np.linspace(0.0, 2 * np.pi / 0.01, 4001)
    x, y, direction = road.centreline(np.full(3, 0.01), way)[-1]
    np.testing.assert_allclose([x, y, direction], [0, 0, 2 * np.pi], atol=2e-3)


@pytest.mark.parametrize("aggressiveness", [0.0, 1.0])
def test_idm_follows_at_its_equilibrium_gap(aggressiveness):
    who = traffic.driver(jnp.asarray(aggressiveness))
    leader = 17.0

    def step(carry, _):
        gap, speed = carry
        acceleration = traffic.idm(speed, 25.0, gap, leader, who)
        end = speed + 0.2 * acceleration
        return (gap + 0.2 * (leader - (speed + end) / 2), end), None

    start = (jnp.asarray(80.0), jnp.asarray(25.0))
    (gap, speed), _ = jax.lax.scan(step, start, length=3000)
    headway = 2.0 - 1.2 * aggressiveness
    expected = (2.0 + leader * headway) / np.sqrt(1 - (leader / 25.0) ** 4)
    np.testing.assert_allclose([gap, speed], [expected, leader], rtol=1e-4)
    np.testing.assert_allclose(
        traffic.equilibrium_gap(leader, 25.0, who), expected, rtol=1e-5
    )
    at_gap = traffic.idm(leader, 25.0, expected, leader, who)
    np.testing.assert_allclose(at_gap, 0.0, atol=1e-5)


def traffics(key, num=9):
    key_along, key_lane, key_speed, key_desired = jax.random.split(key, 4)
    lane = jax.random.randint(key_lane, (num,), 0, 3)
    along = 250 * jax.random.uniform(key_along, (num,))
    speed = jax.random.uniform(key_speed, (num,), minval=8.0, maxval=28.0)
    desired = jax.random.uniform(key_desired, (num,), minval=16.0, maxval=28.0)
    vehicles = traffic.Vehicles(along, 3.5 * lane, lane, speed)
    return vehicles, desired


IDM = jax.jit(traffic.idm)


def mobil(vehicles, desired, ring, who, c=0):
    """The lane that vehicle c chooses, and the new follower's braking, by a loop."""
    along, _, lane, speed = map(np.asarray, vehicles)

    def neighbour(i, side, sign):
        found, least = None, np.inf
        for j in range(len(along)):
            if j != i and lane[j] == side:
                distance = (sign * (along[j] - along[i])) % ring
                if distance < least:
                    found, least = j, distance
        return found, least - 4.8

    def drives(i, gap, j):
        ahead = speed[i] if j is None else speed[j]
        return float(IDM(speed[i], desired[i], gap, ahead, who))

    best, choice, braking = 0.0, lane[c], None
    for side in (lane[c] - 1, lane[c] + 1):
        if not 0 <= side <= 2:
            continue
        leader, front = neighbour(c, side, 1)
        follower, back = neighbour(c, side, -1)
        now, gap = neighbour(c, lane[c], 1)
        old, old_gap = neighbour(c, lane[c], -1)
        gain = drives(c, front, leader) - drives(c, gap, now)
        after = np.inf
        if min(front, back) <= 0:
            continue
        if follower is not None:
            after = drives(follower, back, c)
            before = drives(follower, front + back + 4.8, leader)
            gain += who.politeness * (after - before)
        if old is not None:
            before = drives(old, old_gap, c)
            gain += who.politeness * (drives(old, gap + old_gap + 4.8, now) - before)
        if after >= -who.safe and gain - who.threshold > best:
            best, choice, braking = gain - who.threshold, side, after
    return choice, braking


def test_lanes_are_changed_as_a_plain_loop_of_mobil_says_and_safely():
    ring, num = 250.0, 40
    batch = jax.jit(jax.vmap(traffics))(jax.random.split(KEY, num))
    choose = jax.vmap(
        lambda v, d: traffic.choose_lane(0, v, d, jnp.asarray(ring), 3, DRIVER)
    )
    chosen = jax.jit(choose)(*batch)
    changed = 0
    for i in range(num):
        vehicles, desired = jax.tree.map(lambda x, i=i: np.asarray(x[i]), batch)
        expected, braking = mobil(vehicles, desired, ring, DRIVER)
        assert chosen[i] == expected, i
        if expected != vehicles.lane[0]:
            changed += 1
            assert braking >= -float(DRIVER.safe)
    assert num / 5 < changed < num


def test_mobil_weighs_what_others_lose():
    polite = DRIVER._replace(politeness=0.5, threshold=0.2, safe=3.0)
    safe, gain = traffic.changes((-1.0, 0.5), (0.2, -2.0), (-0.5, 0.3), polite)
    assert safe
    np.testing.assert_allclose(gain, 1.5 + 0.5 * (-2.2 + 0.8) - 0.2, rtol=1e-6)
    assert not traffic.changes((-1.0, 0.5), (0.2, -3.1), (0.0, 0.0), polite)[0]


@pytest.fixture(scope="module")
def driven():
    """Half a minute of the driver that knows the task, in ten tasks outside."""
    env = world.Driving(num_vehicles=8)

    def run(key):
        task = draw_task(key, OUTSIDE, 8)
        obs, state = env.reset_env(key, task)
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)

        def step(carry, _):
            obs, state = carry
            action = driver.act(env, state, task)
            new_obs, new, reward, over, _ = env.step_env(key, state, action, task)
            one = jnp.zeros((), bool)
            step = Trajectory(obs, action, 0.0, reward, new_obs, over, one, ~over)
            return (new_obs, new), (step, new)

        _, again = env.reset_env(jax.random.fold_in(key, 1), task)
        return task, again, *jax.lax.scan(step, (obs, state), length=150)[1]

    keys = jax.random.split(jax.random.key(3), 10)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(keys))


def test_nobody_is_touched_and_the_road_is_kept_by_who_knows_the_task(driven):
    task, _, steps, state = driven
    assert not steps.terminated.any()
    ring = (8 / task.density)[:, None, None, None]
    along, offset = state.vehicles.along, state.vehicles.offset
    ahead = (along[..., None] - along[..., None, :] + ring / 2) % ring - ring / 2
    aside = np.abs(offset[..., None] - offset[..., None, :])
    touching = (np.abs(ahead) < 4.8) & (aside < 1.9)
    assert np.all(touching == np.eye(9, dtype=bool))
    # It keeps its lane, and others change theirs.
    lane = state.vehicles.lane
    assert np.abs(offset[..., 0] - 3.5 * lane[..., 0]).max() < 0.8
    assert (np.diff(lane, axis=1) != 0).any()
    assert state.vehicles.speed.min() > 3.0


def test_what_a_reset_draws_is_changed_by_steps(driven):
    """The family leaves that check out, which runs programs; here one has been run."""
    _, again, _, state = driven
    later = jax.tree_util.tree_leaves_with_path(state)
    for leaf, (path, after) in zip(jax.tree.leaves(again), later, strict=True):
        drawn = np.any(leaf != after[:, 0], axis=0)
        changed = np.any(after != after[:, :1], axis=(0, 1))
        kept = np.atleast_1d(drawn & ~changed)
        # One's own lane, which this driver keeps and another would not.
        if jax.tree_util.keystr(path) == ".vehicles.lane":
            kept = kept[1:]
        assert not kept.any(), path


def test_measures_are_read_off_what_is_seen(driven):
    *_, steps, state = driven
    one = jax.tree.map(lambda x: x[0], steps)
    told = {name: float(f(None, one)) for name, f in measures.MEASURES.items()}
    acceleration = np.append(0.0, state.acceleration[0])
    expected = {
        "collisions": 0.0,
        "off the road": 0.0,
        "lateral acceleration (m/s²)": np.sqrt(np.mean(state.lateral[0] ** 2)),
        "jerk (m/s³)": np.sqrt(np.mean((np.diff(acceleration) / 0.2) ** 2)),
        "speed (m/s)": state.vehicles.speed[0, :, 0].mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(told[name], value, rtol=1e-3, atol=1e-5)
    assert 1.0 < told["least time to collision (s)"] <= 10.0


def scene(**changes):
    """One's own car in the middle lane at 20 m/s, one other 30 m ahead at 10 m/s."""
    env = world.Driving(num_vehicles=1)
    task = draw_task(KEY, INSIDE, 1).replace(
        **{"density": 1 / 300, "curvature": jnp.zeros(12), "friction": 1.0},
        **{"load": 1.0, "steering_delay": 0.3, "wheelbase": 2.7},
        aggressiveness=1.0,  # no politeness: it would make way
        desired=jnp.asarray([10.0]),
    )
    _, state = env.reset_env(KEY, task)
    vehicles = traffic.Vehicles(
        along=jnp.asarray([0.0, 30.0]),
        offset=jnp.asarray([3.5, 3.5]),
        lane=jnp.asarray([1, 1]),
        speed=jnp.asarray([20.0, 10.0]),
    )
    return env, task, state.replace(vehicles=vehicles._replace(**changes))


STEP = jax.jit(world.Driving(num_vehicles=1).step_env)


def run(env, task, state, actions):
    steps = []
    for action in actions:
        obs, state, reward, over, _ = STEP(KEY, state, jnp.asarray(action), task)
        steps.append((obs, reward, bool(over)))
        if over:
            break
    return steps, state


def test_running_into_somebody_is_a_collision_and_leaving_the_road_is_none():
    env, task, state = scene()
    steps, _ = run(env, task, state, [np.zeros(2)] * 20)
    # The gap of 30 - 4.8 m closes at 10 m/s.
    assert len(steps) == 13
    assert steps[-1][1] < -19
    seen = world.seen(steps[-2][0])
    np.testing.assert_allclose(seen.gap, 25.2 - 24, atol=1e-3)
    np.testing.assert_allclose(seen.closing, 10.0, rtol=1e-4)

    # One that is passed within a step is met all the same; in the next lane it is not.
    fast = {"along": jnp.asarray([0.0, 9.0]), "speed": jnp.asarray([90.0, 0.0])}
    assert run(*scene(**fast), [np.zeros(2)])[0][-1][2]
    beside = {**fast, "offset": jnp.asarray([3.5, 7.0])}
    assert not run(*scene(**beside), [np.zeros(2)])[0][-1][2]

    # Nor is one that falls half of a ring of 30 m behind and comes up ahead.
    env, task, state = scene(along=jnp.asarray([0.0, 16.0]))
    task = task.replace(density=1 / 30)
    assert env.ahead(state.vehicles, task) < -13
    assert not run(env, task, state, [np.zeros(2)])[0][-1][2]

    env, task, state = scene(along=jnp.asarray([0.0, 150.0]))
    steps, state = run(env, task, state, [np.array([1.0, 0.0])] * 40)
    assert steps[-1][2]
    obs = jnp.stack([step[0] for step in steps])
    mask = jnp.ones(len(steps), bool)
    over = jnp.asarray([step[2] for step in steps])
    episode = Trajectory(obs, None, None, None, obs, over, ~over, mask)
    assert measures.road_left(None, episode) == 1
    assert measures.collision(None, episode) == 0


def test_wheels_have_the_steering_a_delay_later():
    env, task, state = scene(along=jnp.asarray([0.0, 150.0]))
    actions = [np.array([1.0, 0.0])] + [np.zeros(2)] * 4
    steps, _ = run(env, task, state, actions)
    lateral = [float(world.seen(obs).lateral) for obs, _, _ in steps]
    # τ = 0.3 s, a step and a half: half of each of the next but one.
    full = 20.0**2 * np.cos(np.arctan(np.tan(0.02) / 2)) * np.tan(0.02) / 2.7
    np.testing.assert_allclose(lateral, [0, full, full, 0, 0], rtol=1e-3, atol=1e-5)


def test_tasks_are_of_their_ranges_and_those_outside_beyond_all_of_them():
    family = driving_family(heldout="outside", horizon=2, num_vehicles=2)
    keys = jax.random.split(KEY, 200)
    inside = jax.vmap(family.sample)(keys)
    outside = jax.vmap(family.sample_heldout)(keys)
    for name, (low, high), (first, last) in zip(
        INSIDE._fields, INSIDE, OUTSIDE, strict=True
    ):
        drawn, beyond = getattr(inside, name), getattr(outside, name)
        assert np.all((drawn >= low) & (drawn <= high))
        assert np.all((beyond >= first) & (beyond <= last))
        assert drawn.max() - drawn.min() > 0.9 * (high - low)
        assert first >= high or last <= low, name
