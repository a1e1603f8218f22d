"""Models: networks and indexes loaded and asked, what they are made of, and which images they have had."""
