"""Read frames from a camera in a process of its own, which a driver may hang or crash."""
