"""A world without servers, threads or time, in which the real `Pairing` and `Roster` work.

`steps`: what a coroutine awaits, in a scheduler's hands. `bucket`: commits as JetStream makes them.
`world`: workers, edges and the schedule of chance.
"""
