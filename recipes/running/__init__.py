"""`python main.py run`: stages run here, side by side, or as jobs of a cluster."""
