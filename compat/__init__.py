"""What others have written for Redis, unchanged, against three nodes of SofaDB: a client's own tests, and frameworks at work."""
