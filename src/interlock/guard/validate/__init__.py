"""Is the result physics, or noise?"""
