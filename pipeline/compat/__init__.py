"""Private names of libraries that graphs and targets need: one file per library, each held by a contract test."""
