"""The laboratory: where what the database did, or might do, is judged.

It now holds two instruments. The checker (`history`, `checker`) is given what clients saw and says whether one register
per key, doing one operation at a time, could have answered like that. The explorer of the core (`explorer`) walks
through the orders in which the messages, ticks and disks of a few replicas can come.

Nothing that serves a client imports this room.
"""
