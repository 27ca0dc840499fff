"""The pure heart: nouns, sockets, triggers and the rule of settling. No clock, no I/O, no threads."""
