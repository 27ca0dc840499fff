"""One file for each kind of database: what sql.py asks of it is in protocol.py."""
