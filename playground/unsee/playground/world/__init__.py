"""The drawn world: backgrounds, characters, objects, people, styles, and captions of them."""
