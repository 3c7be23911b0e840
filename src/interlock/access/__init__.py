"""Who asks, what they may do, and who has approved it. Default deny throughout."""
