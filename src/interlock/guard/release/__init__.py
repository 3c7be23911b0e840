"""Hand over with a receipt, or fall back."""
