"""Real nodes on real (if small) machines, under every fault that Linux lets us make. `make chaos` runs it."""
