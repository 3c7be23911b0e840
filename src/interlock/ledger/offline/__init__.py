"""What goes into an export: the verifier that needs no Interlock, and its instructions."""
