"""What was learned, looked into: layers, memories, maps, lines, visits, attention."""
