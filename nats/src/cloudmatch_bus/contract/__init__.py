"""What processes agree on. Pure: no clock, socket, logger, environment or driver."""
