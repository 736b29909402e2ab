"""The font that drawings bring along, and its licence."""
