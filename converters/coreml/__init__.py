"""Core ML: lowering to ML Programs, and an interpreter of them that proves the result without a Mac."""

__all__ = ["interpreter", "ops"]
