"""Results held against claims."""
