"""When edges and workers count as alive: timings, in s, on which both sides of a heartbeat must agree.

Edges and workers beat. An edge that was itself frozen or cut off must notice it (`EDGE_UNHEARD`) before
workers declare it dead (`EDGE_DEAD`): it then introduces its devices again, and none of them is lost.
"""

BEAT = 0.5  # between two heartbeats of a process
STALL = 1.0  # between two steps of our own timers, after which the process was frozen and trusts none of them

EDGE_SILENT = 1.5  # without a heartbeat of an edge, after which workers probe it
EDGE_UNHEARD = 2.5  # without its own heartbeat coming back, after which an edge counts itself as cut off
EDGE_DEAD = 3.5  # without a heartbeat or an answer, after which workers count an edge as dead

WORKER_UNHEARD = 1.0  # without its own heartbeat coming back, after which a worker counts itself as cut off
WORKER_DEAD = 2.0  # without a heartbeat, after which workers count a worker as dead
