"""Language models: how they are built, attend, are sharded, and what running them costs."""
