"""Measures that compare two networks, and how they are plotted."""
