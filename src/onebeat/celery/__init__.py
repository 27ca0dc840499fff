"""Celery: a fleet that exists becomes the engine. Imports app and core; the outside library in one file."""

from onebeat.celery.installing import install
from onebeat.celery.outlet import CeleryOutlet

__all__ = ["CeleryOutlet", "install"]
