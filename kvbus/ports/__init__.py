"""What a node needs from the world: one Protocol a file."""
