"""match-engine: who is paired with whom, and where payloads go.

Pure: :mod:`matcher`, :mod:`roster`, :mod:`keys`, :mod:`ownership`. Shells: :mod:`pairing`, :mod:`partitions`,
:mod:`worker`.
"""
