"""The one front door. Composes core, a store and the engine; every surface acts through it, and only so."""

from onebeat.app.front import Onebeat

__all__ = ["Onebeat"]
