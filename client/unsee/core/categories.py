"""The kinds of things that can be unseen."""

from typing import Literal, get_args

Category = Literal["character", "style", "object", "person", "action"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
