"""What is done to nodes, servers, links, clocks and rows: one small class each, listed in `kinds`."""
