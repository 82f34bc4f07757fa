"""Where images come from: archives, folders and packages, decoded once into the cache."""
