"""Stable storage: a write-ahead log that is proven to be on disk, and the identity of a data directory.

- `files`: the door to the disk, narrow enough that a simulated disk can stand behind it.
- `segment`: how bytes lie in one file of the log, and how to tell what is whole, torn, rotten or left over.
- `journal`: the log: append, recover, read back, cut.
- `snapshot`: what the log before it led to, in one file, so that the log can be cut.
- `writer`: the disk thread: one write and one sync for everything that arrived during the last.
- `identity`: whose directory this is, and how often it was started.

It knows bytes, checksums and integer keys; it knows no ballots and no commands.
"""
