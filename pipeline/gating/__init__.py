"""The accuracy gate: decide whether a bundle may ship, and report it."""
