"""The governor: limits signed by a person, held by a process the model cannot reach into."""
