"""What every process needs, with or without NATS: settings, signals, logging, health, HTTP."""
