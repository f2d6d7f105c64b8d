"""A FUSE file system that shows another directory; `kill -STOP` makes it hang.

usage: mirror.py SOURCE MOUNTPOINT
"""

import os
import sys

import fusepy


class Mirror(fusepy.Operations):
    def __init__(self, root):
        self.root = root

    def getattr(self, path, handle=None):
        facts = os.lstat(self.root + path)
        names = ("st_atime", "st_ctime", "st_gid", "st_mode", "st_mtime", "st_nlink", "st_size", "st_uid")
        return {name: getattr(facts, name) for name in names}

    def readdir(self, path, handle):
        return [".", "..", *os.listdir(self.root + path)]

    def open(self, path, flags):
        return os.open(self.root + path, os.O_RDONLY)

    def read(self, path, size, offset, handle):
        return os.pread(handle, size, offset)

    def release(self, path, handle):
        os.close(handle)


fusepy.FUSE(Mirror(sys.argv[1]), sys.argv[2], foreground=True)
