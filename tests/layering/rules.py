# SPDX-License-Identifier: MIT
"""Who may include whom: the one table of the house. tree.py reads the sources, checks.py holds them to this.

codec/ is built in levels. A folder includes public headers of folders on lower levels, and its own; an inner.h is included from its own
folder alone. Folders on the same level know nothing of each other.
"""

LEVELS = {
    "bytes": 0,
    "object": 1,
    "overlay": 1,
    "pickle": 2,
    "container": 3,
    "tensor": 4,
    "value": 5,
    "placement": 5,
    "directory": 5,  # checkpoints in several files: the containers that are no file
    "tree": 6,
    "edit": 7,
    "commit": 8,
    "compose": 9,  # files made of the tree's tensors: it shows base and edits together; exports use what commits write with
    "": 10,  # the door: checkpoint.h and the files that implement a part of it
}

# What fs/ may see of the codec: the door, and the headers of codec/bytes/ that it brings.
DOOR = {"codec/checkpoint.h", "codec/bytes/array.h", "codec/bytes/buffer.h", "codec/bytes/ends.h", "codec/bytes/err.h", "codec/bytes/json.h", "codec/bytes/map.h"}

# What the codec may see of devices/: the interface.
DEVICES_DOOR = {"devices/device.h"}

# What fs/wfctl/ may see of fs/: what both programs print and ask. Nothing else of fs/ sees fs/wfctl/.
WFCTL_DOOR = {"fs/busy.h", "fs/mounts.h", "fs/places.h", "fs/say.h"}

# Programs that work where FUSE is missing, and the libraries that they are not linked with.
UNLINKED = {"fs/wfctl": ("fuse",)}

# What is not held yet. A new fault fails, and so does a new member of a known loop; whoever mends one takes it off here.
KNOWN_LOOPS = []

# Symbols that no other file of the programs uses, but a unit test does. Nothing else is to be here.
KNOWN_EXPORTS = {
    "wf_zip_id_combine",
}

# Tags that two files define.
KNOWN_TAGS = set()

FILE_LINES, FUNCTION_LINES = 450, 60

# Files and functions that are longer, and how long they may be.
KNOWN_LENGTHS = {
}
