"""A car among others on a road of several lanes.

| file | what |
|---|---|
| `bicycle.py` | how a car moves: the kinematic bicycle, held by friction |
| `road.py` | curved coordinates along a road |
| `traffic.py` | how others drive: IDM along, MOBIL across |
| `world.py` | the environment |
| `measures.py` | what is told of an episode beside its return |
| `driver.py` | a driver that knows the task, to compare with |
| `family.py` | which tasks there are |
"""
