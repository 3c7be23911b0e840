"""What a circuit is for, told from what it computes and not from the names of its gates."""

from interlock.circuits.intent.classify import MAX_STEPS, Intent, classify

__all__ = ["MAX_STEPS", "Intent", "classify"]
