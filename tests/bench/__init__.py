"""How fast the relay is, and what it costs: see README.md."""
