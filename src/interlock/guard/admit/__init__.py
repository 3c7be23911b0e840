"""May this principal ask for this, now, with this data?"""
