"""A world without servers or threads, with a clock of its own, in which the real `Pairing` and `Roster` work.

`steps`: what a coroutine awaits, in a scheduler's hands. `bucket`: commits as JetStream makes them.
`workers` and `edges`: what they know and ask. `world`: the schedule of chance.
"""
