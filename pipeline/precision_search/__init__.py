"""Find the fewest layers that must stay in float for a bundle to pass the gate."""
