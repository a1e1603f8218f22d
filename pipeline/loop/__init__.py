"""What is served comes back as data: collected images, drift, and what is done about it."""
