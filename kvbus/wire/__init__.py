"""The bytes on the wire: client protocol (PROTOCOL.md), peer protocol (PEER_PROTOCOL.md), CBOR."""
