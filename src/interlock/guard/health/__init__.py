"""Is the device fit for this circuit?"""
