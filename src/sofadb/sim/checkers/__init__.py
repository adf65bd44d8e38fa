"""Checkers of histories, one for each kind of object that clients can use: what did they see that no correct database shows?

    lists      lists that transactions append to and read           strict serializability, by Elle's rules
    sets       a set that only grows                                linearizability
    bank       accounts between which money moves                   the total, and what each account can hold
    locks      a lock with fencing tokens                           one holder; tokens rise; no write behind a higher token
    counters   a counter whose increments are tried again           each once
    queues     first in, first out                                  each out once, none lost, in order
    expiry     keys with a time to live                             neither too short nor too long, by a bound on the clocks

Each has one function, `check`, which is given all operations in any order and returns a `Verdict` (`verdict`).
"""
