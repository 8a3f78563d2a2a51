"""Training on own solutions: a model samples them, and those that a grader accepts become rows."""
