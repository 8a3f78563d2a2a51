"""What a run left: asked one problem, exported again."""
