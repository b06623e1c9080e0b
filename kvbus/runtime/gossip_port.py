"""Publish and subscribe: the sender picks its receivers by the topic, which is the receiver's name."""

from __future__ import annotations

from collections.abc import Sequence

import zmq


class GossipPort:
    """One PUB that is bound and one SUB that is connected to every peer's PUB, subscribed to this node's own name.

    libzmq filters at the publisher, so a frame travels only to the node it is meant for.
    """

    def __init__(
        self, publisher: zmq.Socket[bytes], subscriber: zmq.Socket[bytes], *, topic: bytes, addresses: Sequence[str]
    ) -> None:
        self._publisher = publisher
        self.subscriber = subscriber
        self._topic = topic
        subscriber.setsockopt(zmq.SUBSCRIBE, topic)
        for address in addresses:
            subscriber.connect(address)

    def publish(self, topic: bytes, frame: bytes) -> None:
        """Publish ``frame``; whoever is not connected does not get it."""
        self._publisher.send_multipart([topic, frame], zmq.NOBLOCK)

    def receive(self, frames: list[bytes]) -> None:
        """Append what arrived for this node; topics that only begin with its name are somebody else's."""
        # A PUB that is never asked anything keeps what each connection to it left behind.
        self._publisher.getsockopt(zmq.EVENTS)
        try:
            while True:
                message = self.subscriber.recv_multipart(zmq.NOBLOCK)
                if len(message) == 2 and message[0] == self._topic:
                    frames.append(message[1])
        except zmq.Again:
            return
