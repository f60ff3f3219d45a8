"""Observers: choose one tensor's range from the values that it takes."""
