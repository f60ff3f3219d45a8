"""Private names of libraries that calibration needs: one file per library, each held by a contract test."""
