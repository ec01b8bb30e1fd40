"""CloudMatch without servers, threads or a clock: seeded worlds in which its real parts meet.

`payload_world`: devices of the Python client (`devices`: the real `Conversation`) on edges with real relays
and workers with the real engine (`processes`), over a bus that loses, repeats and reorders (`network`), on a
loop whose time jumps (`virtual_time`). `wire` checks every frame of a device.
`pairing_world`: the engine alone, on a schedule that decides at each of its awaits which task runs next
(`steps`), with models of the processes (`pairing_workers`, `pairing_edges`).
Both write to a `bucket` in memory that commits like JetStream, and check every commit.
"""
