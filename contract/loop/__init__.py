"""Images that serving kept, their labels, and what served images are compared with: shared by server and loop."""
