"""``kvbus lab``: a cluster whose nodes sit in network namespaces of their own, and real cuts between them."""
