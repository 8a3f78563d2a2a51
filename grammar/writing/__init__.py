"""Data to text: problems and gold solutions."""
