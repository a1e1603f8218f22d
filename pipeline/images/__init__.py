"""The images of the steps and of serving: built, tagged by their content, pushed, and named in the manifests."""
