"""How Redis clients reach a node: connections, requests, replies, and the commands that concern a connection.

- `listener`: the port.   `connection`: one client, its order and its bounds.
- `requests`: bytes to commands, checked before they become objects.   `encoding`: replies to bytes.
- `waiting`: who waits for a lock or an instance.
- `commands`: PING, CLIENT, INFO and their like.   `state`: what all connections share.
- `subscriptions`: who listens to what.   `sentinel`: who leads, as Redis's Sentinels tell it.

It knows nothing of ballots and disks: it hands work to a node and gets it executed, or refused, once.
"""
