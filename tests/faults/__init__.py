"""Inject faults into a real stack and check the delivery guarantee.

Pure: :mod:`nemesis` (the schedule of faults, from a seed), :mod:`checker` (what was sent and received).
Shells: :mod:`client` and :mod:`devices` (one device), :mod:`workload` (pairs), :mod:`stack` (the processes),
:mod:`run`. Shown by :mod:`report`. Start it with ``make test-faults``.
"""
