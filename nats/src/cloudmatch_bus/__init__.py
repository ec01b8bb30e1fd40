"""The bus: the contract that all CloudMatch services share, and their only door to NATS.

- `contract`: subjects, messages, limits and times on which processes agree. Pure: no clock, socket, logger,
  environment or driver.
- `client`: everything that talks to NATS; nothing else imports nats-py.
- `process`: what every process needs, with or without NATS: settings, signals, logging, health, HTTP.
- `tools`: the commands ``cloudmatch-trace`` and ``cloudmatch-keys``.
"""
