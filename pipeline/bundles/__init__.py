"""Write bundles, open again what they were made of, sign and verify them."""
