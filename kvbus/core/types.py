"""Identifiers and units that every layer shares."""

from __future__ import annotations

from typing import NewType

NodeIndex = NewType("NodeIndex", int)
"""A server's short id: given once by the topology, never given again. At epoch 1 the index by sorted name."""

Partition = NewType("Partition", int)
"""A partition's number, 0 … Q-1, in ring order."""

Epoch = NewType("Epoch", int)
"""The topology document's version, from 1."""

Lsn = NewType("Lsn", int)
"""Log sequence number: one for each batch that an engine's log took, from 1; 0 means none."""

BatchId = NewType("BatchId", int)
"""Names one batch in flight at its coordinator; never used twice by a node, restarts included."""
