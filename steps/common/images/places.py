"""Where splits and pixels lie on the data volume; imports no library."""

KIND = "dataset"  # the kind of a split's artefact
PIXELS = "pixels"  # the folder of the folders of shards
