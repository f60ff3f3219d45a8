"""What several families share without loading torch: options and scaling rules."""
