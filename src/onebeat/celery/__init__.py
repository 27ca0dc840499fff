"""Celery: a fleet that exists becomes the engine. Imports app and core, and the outside library."""
