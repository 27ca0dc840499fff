"""Schedules from elsewhere: what is read becomes definitions, problems and notes, and nothing is written.

Imports core, and is handed rows; the surface that asked hands the definitions to ``beat.apply``.
"""
