"""The `graphc` command: it prints for people, and its exit codes are for scripts."""
