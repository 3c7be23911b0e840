"""Secret rules, matching, masking."""
