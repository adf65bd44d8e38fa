"""Load: asks a cluster as many clients would, and notes how long each answer takes.

- `latencies` says what came of it: rates and percentiles.
- `pacing` says when a request is due. In a closed loop that is when an answer frees a place. In an open loop the clock alone says
  so, and a request that could not leave in time has been waiting since it was due (otherwise a server that stands still would be
  asked less, and look better: coordinated omission).
- `speakers` put requests into bytes and find answers in bytes; `generator` has connections, on which it lets speakers speak.

One thread, no event loop: the generator shares the machine with what it measures, so it has to cost little.
"""
