# SPDX-License-Identifier: MIT
"""Many threads that use a mount at once."""
import mmap
import os
import threading
import time


class Direct:
    """A file read past the kernel's cache."""

    def __init__(self, path):
        self.fd, self.page = os.open(path, os.O_RDONLY | os.O_DIRECT), mmap.mmap(-1, 4096)

    def read(self, offset):
        n = os.preadv(self.fd, [self.page], offset)
        return self.page[:n]

    def close(self):
        os.close(self.fd)
        self.page.close()


class Crowd:
    """Threads that repeat their work until the end; the first thing that goes wrong in each is kept."""

    def __init__(self):
        self.stop, self.threads, self.bad, self.counts, self.files = threading.Event(), [], [], {}, []

    def direct(self, path):
        self.files.append(Direct(path))
        return self.files[-1]

    def add(self, name, work):
        def loop():
            n = 0
            try:
                while not self.stop.is_set():
                    work(n)
                    n += 1
            except Exception as e:
                self.bad.append((name, n, repr(e)))
            self.counts[name] = self.counts.get(name, 0) + n

        self.threads.append(threading.Thread(target=loop))

    def run(self, seconds):
        for t in self.threads:
            t.start()
        time.sleep(seconds)  # this long they work; nothing is waited for
        self.stop.set()
        for t in self.threads:
            t.join()
        for f in self.files:
            f.close()
