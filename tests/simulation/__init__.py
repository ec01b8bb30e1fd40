"""CloudMatch without servers, threads or a clock: seeded worlds in which real parts meet.

`pairing_world`: the engine of match-engine, `PairingHandler` and `Roster`. `steps` makes its awaits wait for
the schedule, `pairing_workers` and `pairing_edges` are the processes; `bucket` commits like JetStream.
"""
