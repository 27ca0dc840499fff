"""`onebeat demo`: three nodes, one file, and somebody who breaks things while they work.

The nodes run the product. What judges them (expect, ledger, outside, verdict) imports nothing of it.
"""
