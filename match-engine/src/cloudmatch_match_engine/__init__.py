"""match-engine: which devices are matched, and where payloads go.

`core` decides: no I/O. `pairing` handles requests: reads, decides, commits, notifies. `worker`, `routing`,
`partitions`, `sweeps` and `http_api` do the I/O; `service` wires them together.
"""
