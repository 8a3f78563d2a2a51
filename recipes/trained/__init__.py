"""A trained model, asked one problem."""
