"""The statistics that controls share, each with its paper; pure, in plain Python or numpy."""
