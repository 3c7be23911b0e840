"""The guarded path: every quantum job goes through it, stage by stage."""
