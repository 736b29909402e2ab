"""Programs: loop nests over buffers, the level where all backends meet."""
