"""match-engine: who is paired with whom, and where payloads go.

Pure: :mod:`matcher`, :mod:`roster`, :mod:`keys`. Shells: :mod:`pairing`, :mod:`worker`.
"""
