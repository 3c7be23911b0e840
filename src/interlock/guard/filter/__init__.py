"""Does the decoded output obey the constraints?"""
