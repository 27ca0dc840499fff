"""The chaos rig: real nodes on a real store, to whom everything happens, and what the world saw of it."""
