"""CloudMatch."""
