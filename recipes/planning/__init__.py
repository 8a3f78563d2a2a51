"""What a recipe asks for: its stages, arms and their cost, before anything is run."""
