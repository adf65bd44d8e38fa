"""The laboratory: where what the database did, or might do, is judged.

- The simulator: `loop`, `network`, `disk`, `host` are machines; `cluster` is whole nodes on them; `watch` sees every step and
  has `invariants` judged; `plan` is the world that a seed means, `faults` and `clients` live in it, `world` is one run of it;
  `hunt` tries many, `replay` and `story` tell one, `sabotages` are what it must find.
- The checkers: `history` and `checker` (is it linearizable?), `checkers` (lists, sets, a bank, locks, counters, queues, expiry).
- The explorer: `cases` and `explorer` walk through every interleaving of small cases of the paper's roles.
- The specification: `conformance` asks TLC whether a run is one that `spec/` allows.

Nothing that serves a client imports this room.
"""
