"""The ledger on Redis or Valkey: scripts on the server change it; cells.py says how a noun is a hash."""
