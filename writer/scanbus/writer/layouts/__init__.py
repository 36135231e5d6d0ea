"""How files look, as data: pure functions that return trees."""
