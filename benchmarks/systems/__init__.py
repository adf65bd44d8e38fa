"""What is measured: each started on this machine with its own defaults, and asked in its own protocol."""
