"""Peer frames: a fixed head, then what the kind says. Source: PEER_PROTOCOL.md.

Data frames go one way, from a node's DEALER to the peer's ROUTER, and answers come back on the peer's own DEALER.
Only the handshake is answered on the socket it arrived at.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

from kvbus.core.types import Epoch
from kvbus.errors import PeerProtocolError
from kvbus.wire.cbor import CborError, decode_map, dumps

PEER_PROTOCOL_VERSION = 2
MAX_FRAME_BYTES = 32 << 20
MAX_FRAMES = 4096
MAX_HELLO_BYTES = 4096

HELLO = 1
WELCOME = 2
REFUSED = 3

_HEAD = Struct("<BBHIQQ")
HEAD_BYTES = _HEAD.size


class Head(NamedTuple):
    """A data frame's head: its kind, flags, the keyspace's space, the batch it belongs to, the sender's epoch."""

    kind: int
    flags: int
    space: int
    batch: int
    epoch: int


def pack_head(kind: int, *, space: int, batch: int, epoch: Epoch, flags: int = 0) -> bytes:
    """Encode a data frame's head."""
    return _HEAD.pack(kind, flags, 0, space, batch, epoch)


def unpack_head(frame: bytes) -> Head:
    """Decode a data frame's head.

    Raises:
        PeerProtocolError: the frame is shorter than a head, or its reserved bytes are not zero.
    """
    if len(frame) < HEAD_BYTES:
        raise PeerProtocolError(f"a frame of {len(frame)} bytes has no head")
    kind, flags, reserved, space, batch, epoch = _HEAD.unpack_from(frame)
    if reserved:
        raise PeerProtocolError("the reserved bytes of a frame's head must be zero")
    return Head(kind, flags, space, batch, epoch)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """The first message on every link: who speaks, for which cluster, and under which agreement.

    ``node_id`` was minted into the sender's data directory; ``incarnation`` grows at each of its starts; ``agreement``
    is a digest of what all members must agree on (members, partitions, replicas, keyspaces and their modes).
    """

    version: int
    cluster: str
    name: str
    node_id: str
    incarnation: int
    epoch: int
    agreement: str

    def encode(self) -> bytes:
        """Encode as the kind byte and a CBOR map."""
        return bytes([HELLO]) + dumps({field: getattr(self, field) for field in self.__slots__})


def decode_hello(frame: bytes) -> Hello:
    """Decode a hello frame.

    Raises:
        PeerProtocolError: it is not one, or a field is missing or of the wrong type.
    """
    if not frame or frame[0] != HELLO:
        raise PeerProtocolError("the first frame of a link must be a hello")
    if len(frame) > MAX_HELLO_BYTES:
        raise PeerProtocolError(f"a hello may have {MAX_HELLO_BYTES} bytes, this one has {len(frame)}")
    try:
        fields = decode_map(frame[1:])
    except CborError as error:
        raise PeerProtocolError(f"hello is not a CBOR map: {error}") from error
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}
    for name in ("version", "incarnation", "epoch"):
        value = fields.get(name)
        if type(value) is not int or value < 0:
            raise PeerProtocolError(f"hello: {name} must be an unsigned integer")
        numbers[name] = value
    for name in ("cluster", "name", "node_id", "agreement"):
        value = fields.get(name)
        if type(value) is not str:
            raise PeerProtocolError(f"hello: {name} must be text")
        texts[name] = value
    return Hello(
        version=numbers["version"],
        cluster=texts["cluster"],
        name=texts["name"],
        node_id=texts["node_id"],
        incarnation=numbers["incarnation"],
        epoch=numbers["epoch"],
        agreement=texts["agreement"],
    )


def encode_refusal(reason: str) -> bytes:
    """Encode the answer to a hello that is not accepted; ``reason`` names the mend."""
    return bytes([REFUSED]) + reason.encode()
