"""SofaDB: *Paxos Made Simple* as a library, and a replicated database on it that speaks the Redis protocol."""

__version__ = "0.1.0"
