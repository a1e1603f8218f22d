"""Where splits and pixels lie on the data volume; imports no library."""

KIND = "dataset"  # the kind of a split's artefact
FORMAT = "pixels.json"  # in a split, says which of these its pixels are in
PIXELS = "pixels"  # the folder of the folders of shards
