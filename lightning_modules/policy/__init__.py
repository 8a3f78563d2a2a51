"""Reinforcement learning: rollouts become experience, experience becomes updates."""
