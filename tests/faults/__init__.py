"""Break CloudMatch on purpose, over a real stack, and count what its devices see.

Pure: :mod:`plan` (what breaks when, from a seed), :mod:`tally` (what was sent and what was heard).
Shells: :mod:`client` (one device), :mod:`traffic` (pairs that talk), :mod:`stack` (what dies), :mod:`run`.
Shown by :mod:`report`. Start it with ``make test-faults``.
"""
