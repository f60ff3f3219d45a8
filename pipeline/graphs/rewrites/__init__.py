"""Rewrites of a network's graph: operators that a runtime cannot take, as ones that it can."""
