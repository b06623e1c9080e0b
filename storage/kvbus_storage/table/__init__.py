"""Tables (SSTables): blocks, filters, writing and reading them."""
