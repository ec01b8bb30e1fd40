"""When a process counts as dead: timings, in s, on which both sides of a heartbeat must agree.

An edge that was frozen or cut off must notice it (`EDGE_ISOLATED_AFTER`) before workers declare it dead
(`EDGE_DEAD_AFTER`): it then registers its devices again, and none of them is lost.
"""

HEARTBEAT_INTERVAL = 0.5  # between two heartbeats of a process

# Between two steps of a process's own timers; after a longer gap it was frozen and restarts all of them.
STALLED_AFTER = 1.0

EDGE_PROBED_AFTER = 1.5  # without a heartbeat of an edge; workers then probe it
EDGE_ISOLATED_AFTER = 2.5  # without receiving its own heartbeat; an edge then counts itself as cut off
EDGE_DEAD_AFTER = 3.5  # without a heartbeat or an answer; workers then count an edge as dead

# After an edge has learned of a delivery. What it has not published by then it no longer counts but claims:
# the other end of the match may have claimed it, too. The journal counts claims later than that.
COUNTED_WITHIN = 5.0
CLAIM_GRACE = 15.0  # after the journal has read a claim, by default

WORKER_ISOLATED_AFTER = 1.0  # without receiving its own heartbeat; a worker then counts itself as cut off
WORKER_DEAD_AFTER = 2.0  # without a heartbeat; workers then count a worker as dead
