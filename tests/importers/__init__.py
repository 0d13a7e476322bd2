"""Archives as exchanges publish them, made by hand, and what becomes of them."""
