"""match-engine: who is paired with whom, and where payloads go.

Pure: :mod:`matcher`, :mod:`pool`, :mod:`roster`, :mod:`records`, :mod:`keys`, :mod:`presence`, :mod:`recent`,
:mod:`ownership`, :mod:`explain`. The engine: :mod:`pairing`, :mod:`search`, :mod:`ending`, :mod:`registry`,
:mod:`reservations`. Shells: :mod:`partitions`, :mod:`sweeps`, :mod:`worker`, :mod:`gateway`.
"""
