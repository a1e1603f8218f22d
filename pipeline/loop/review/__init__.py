"""A page on which people label what the server collected, and images of the data set that may be mislabelled."""
