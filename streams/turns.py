"""Whose turn it is to compute.

Threads of one process that all want to compute pass the interpreter's lock back and forth, and the
processor's caches with it. So a stage holds :data:`turn` while it computes and lets go of it while it
waits for Kafka.
"""

import threading

turn = threading.Lock()
