"""As much of the protocols of others as it takes to put the same load on them."""
