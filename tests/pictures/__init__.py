"""The pictures of the READMEs that are made from running programs."""
