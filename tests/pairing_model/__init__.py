"""A simulation without servers or threads, with its own clock, of the real `PairingHandler` and `Roster`.

`steps`: coroutines whose awaits the scheduler controls. `bucket`: commits like JetStream's. `workers` and
`edges`: the processes. `world`: the seeded schedule.
"""
