"""May it act, at this speed and volume?"""
