"""Other edits than the default mode's, compared on the same concepts under the same attacks."""
