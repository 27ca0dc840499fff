"""What moves: the dispatcher settles, the worker executes, the service keeps both going.

Imports core alone. The ledger is handed in, so is the clock; nothing here knows which store it is.
docs/explanation/engine.md has the prose and the state diagram.
"""
