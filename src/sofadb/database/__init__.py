"""The state machine: what the sequence of commands means.

Given the same entries in the same order with the same time it comes to the same state, byte for byte, on every replica. It
knows no clock, no chance, no socket and no consensus: time is a number that comes with each batch.

- `table`: the one place where each command is declared.
- `commands`: the commands, a file for each type.
- `keyspace`: keys, values, expiry, versions.   `database`: sixteen of them, and their time.
- `image`: the whole state as bytes, taken while it changes.   `past`: how a keyspace keeps what it was.   `loader`: the way back.
- `rolling`: a digest of every change there ever was.   `packed`: values and replies as bytes.
- `once`: ids of commands that are done once.   `locks`: locks and their tokens.   `shared`: what belongs to no single database.
- `lua`: scripts.   `scripts`: those that are known.   `undo`: taking back what one has done.
- `runs`: what a connection asks in one go, as an entry of the log and as its execution.
- `replies`: what a command answers.   `patterns`: Redis's glob patterns.
"""
