"""Unpacks the last layer of an image archive: of the Dask test image, that is Python's packages.

So the same packages run on this machine, without another download. Arguments: the archive, an empty folder.
"""

import json
import sys
import tarfile

archive, target = sys.argv[1:]
with tarfile.open(archive) as image:

    def blob(descriptor):
        return image.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))

    index = json.load(image.extractfile("index.json"))
    manifest = json.load(blob(index["manifests"][0]))
    with tarfile.open(fileobj=blob(manifest["layers"][-1])) as layer:
        layer.extractall(target)
