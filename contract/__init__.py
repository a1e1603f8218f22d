"""What pipeline, steps and serving agree on: types of what crosses a border; imports nothing else of this project."""
