"""Packs: ready-made filters of one field of work, each a control of the `filter` stage."""
