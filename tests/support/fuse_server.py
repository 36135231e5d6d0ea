"""A file system that lacks things: ``python -m … FOLDER BACKING FAULT...``.

It passes what is done below FOLDER on to the folder BACKING, and refuses what the
faults name, as file systems on networks do. It speaks the protocol of ``/dev/fuse``
itself (linux/fuse.h, 7.31), as no library for that has to be there. It prints one line
once it is mounted, and ends when it is unmounted.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
# errno that each fault answers, and to what.
FAULTS: Final = {
    "links": errno.EPERM,
    "links_across": errno.EXDEV,
    "no_replace": errno.EINVAL,
    "rename": errno.EPERM,
    "symlinks": errno.EPERM,
    "locks": errno.ENOLCK,
    "fsync": errno.EINVAL,
    "fsync_folder": errno.EINVAL,
    "long_names": errno.ENAMETOOLONG,
    "case": 0,
    "writes": errno.EIO,
}
LONGEST_NAME: Final = 143  # as of eCryptfs
_MAX_WRITE = 128 * 1024
_LOCKS_HERE = 1 << 1 | 1 << 10  # FUSE_POSIX_LOCKS, FUSE_FLOCK_LOCKS
_BIG_WRITES = 1 << 5
_NO_REPLACE = 1
_AT_CWD = -100
_IN = struct.Struct("=IIQQIIII")


class FuseServer:
    """Serves one mount; paths, not inodes, are its nodes.

    Parameters
    ----------
    device : int
        Descriptor of ``/dev/fuse``, mounted.
    backing : str
        Folder of what is in it.
    faults : set of str
        What it lacks; see `FAULTS`.
    """

    def __init__(self, device: int, backing: str, faults: set[str]) -> None:
        self._device = device
        self._faults = faults
        self._paths = {1: backing}
        self._ids = {backing: 1}
        self._next_id = 2
        self._handlers: dict[int, Callable[[int, bytes], bytes]] = {
            1: self._lookup, 3: self._getattr, 4: self._setattr, 5: self._readlink,
            6: self._symlink, 8: self._mknod, 9: self._mkdir, 10: self._unlink,
            11: self._rmdir, 12: self._rename, 13: self._link, 14: self._open,
            15: self._read, 16: self._write, 17: self._statfs, 18: self._release,
            20: self._fsync, 25: self._nothing, 26: self._init, 27: self._opendir,
            28: self._readdir, 29: self._nothing, 30: self._fsyncdir, 32: self._lock,
            33: self._lock, 35: self._create, 38: self._nothing, 43: self._fallocate,
            45: self._rename2,
        }  # fmt: skip

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._device, _MAX_WRITE + 65536)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return  # unmounted
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                raise
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in (2, 36, 42):  # FORGET, INTERRUPT, BATCH_FORGET
                continue
            code, reply = self._answer(opcode, node, request[_IN.size :])
            head = struct.pack("=IiQ", 16 + len(reply), -code, unique)
            try:
                os.write(self._device, head + reply)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise

    def _answer(self, opcode: int, node: int, body: bytes) -> tuple[int, bytes]:
        handler = self._handlers.get(opcode)
        if handler is None:
            return errno.ENOSYS, b""
        try:
            return 0, handler(node, body)
        except OSError as error:
            return error.errno or errno.EIO, b""

    def _refuse(self, fault: str) -> None:
        if fault in self._faults:
            raise OSError(FAULTS[fault], fault)

    def _path(self, node: int, name: bytes = b"") -> str:
        path = self._paths.get(node)
        if path is None:
            raise OSError(errno.ENOENT, "gone")
        if not name:
            return path
        text = os.fsdecode(name)
        if len(name) > LONGEST_NAME:
            self._refuse("long_names")
        return f"{path}/{self._known_as(path, text)}"

    def _known_as(self, folder: str, name: str) -> str:
        """Return a name as it is in a folder: cases are kept, but not told apart."""
        if "case" in self._faults:
            for one in Path(folder).iterdir():
                if one.name.lower() == name.lower():
                    return one.name
        return name

    def _entry(self, path: str) -> bytes:
        status = os.lstat(path)
        if path not in self._ids:
            self._ids[path] = self._next_id
            self._paths[self._next_id] = path
            self._next_id += 1
        return struct.pack("=QQQQII", self._ids[path], 0, 0, 0, 0, 0) + _attr(status)

    def _forget(self, path: str) -> None:
        node = self._ids.pop(path, None)
        if node is not None:
            del self._paths[node]

    def _init(self, _: int, body: bytes) -> bytes:
        flags = _BIG_WRITES | (_LOCKS_HERE if "locks" in self._faults else 0)
        ahead = struct.unpack_from("=II", body, 8)[0]
        limits = (12, 9, _MAX_WRITE, 1, 0, 0, 0)
        return struct.pack("=IIIIHHIIHHI7I", 7, 31, ahead, flags, *limits, *[0] * 7)

    def _nothing(self, _: int, __: bytes) -> bytes:
        return b""

    def _lookup(self, node: int, body: bytes) -> bytes:
        return self._entry(self._path(node, body.rstrip(b"\0")))

    def _getattr(self, node: int, body: bytes) -> bytes:
        flags, _, handle = struct.unpack_from("=IIQ", body)
        status = os.fstat(handle) if flags & 1 else os.lstat(self._path(node))
        return struct.pack("=QII", 0, 0, 0) + _attr(status)

    def _setattr(self, node: int, body: bytes) -> bytes:
        valid, _, handle, size = struct.unpack_from("=IIQQ", body)
        mode, _, uid, gid = struct.unpack_from("=IIII", body, 68)
        target = f"/proc/self/fd/{handle}" if valid & 64 else self._path(node)
        if valid & 1:
            Path(target).chmod(mode & 0o7777)
        if valid & 6:
            os.chown(target, uid if valid & 2 else -1, gid if valid & 4 else -1)
        if valid & 8:
            os.truncate(target, size)
        if valid & (128 | 256):
            os.utime(target)
        status = os.fstat(handle) if valid & 64 else os.lstat(target)
        return struct.pack("=QII", 0, 0, 0) + _attr(status)

    def _readlink(self, node: int, _: bytes) -> bytes:
        return os.fsencode(Path(self._path(node)).readlink())

    def _symlink(self, node: int, body: bytes) -> bytes:
        self._refuse("symlinks")
        name, target = body.rstrip(b"\0").split(b"\0")
        Path(self._path(node, name)).symlink_to(os.fsdecode(target))
        return self._entry(self._path(node, name))

    def _mknod(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body[16:].rstrip(b"\0"))
        os.mknod(path, struct.unpack_from("=I", body)[0])
        return self._entry(path)

    def _mkdir(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body[8:].rstrip(b"\0"))
        Path(path).mkdir(struct.unpack_from("=I", body)[0])
        return self._entry(path)

    def _unlink(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body.rstrip(b"\0"))
        Path(path).unlink()
        self._forget(path)
        return b""

    def _rmdir(self, node: int, body: bytes) -> bytes:
        path = self._path(node, body.rstrip(b"\0"))
        Path(path).rmdir()
        self._forget(path)
        return b""

    def _rename(self, node: int, body: bytes) -> bytes:
        return self._renamed(node, struct.unpack_from("=Q", body)[0], body[8:], 0)

    def _rename2(self, node: int, body: bytes) -> bytes:
        folder, flags = struct.unpack_from("=QI", body)
        if flags:
            self._refuse("no_replace")
        return self._renamed(node, folder, body[16:], flags)

    def _renamed(self, node: int, folder: int, names: bytes, flags: int) -> bytes:
        self._refuse("rename")
        old, new = names.rstrip(b"\0").split(b"\0")
        before, after = self._path(node, old), self._path(folder, new)
        old_path, new_path = os.fsencode(before), os.fsencode(after)
        if LIBC.renameat2(_AT_CWD, old_path, _AT_CWD, new_path, flags):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self._forget(after)
        for path in [one for one in self._ids if f"{one}/".startswith(f"{before}/")]:
            number = self._ids.pop(path)
            moved = after + path[len(before) :]
            self._ids[moved], self._paths[number] = number, moved
        return b""

    def _link(self, node: int, body: bytes) -> bytes:
        self._refuse("links")
        source = self._path(struct.unpack_from("=Q", body)[0])
        path = self._path(node, body[8:].rstrip(b"\0"))
        if Path(source).parent != Path(path).parent:
            self._refuse("links_across")
        os.link(source, path)
        return self._entry(path)

    def _open(self, node: int, body: bytes) -> bytes:
        flags = struct.unpack_from("=I", body)[0] & ~(os.O_CREAT | os.O_EXCL)
        handle = os.open(self._path(node), flags | os.O_NOFOLLOW)
        return struct.pack("=QIi", handle, 0, 0)

    def _create(self, node: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("=II", body)
        path = self._path(node, body[16:].rstrip(b"\0"))
        handle = os.open(path, flags | os.O_CREAT, mode & 0o7777)
        return self._entry(path) + struct.pack("=QIi", handle, 0, 0)

    def _read(self, _: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("=QQI", body)
        return os.pread(handle, size, offset)

    def _write(self, _: int, body: bytes) -> bytes:
        self._refuse("writes")
        handle, offset, size = struct.unpack_from("=QQI", body)
        n_bytes = os.pwrite(handle, body[40 : 40 + size], offset)
        return struct.pack("=II", n_bytes, 0)

    def _release(self, _: int, body: bytes) -> bytes:
        os.close(struct.unpack_from("=Q", body)[0])
        return b""

    def _fsync(self, _: int, body: bytes) -> bytes:
        self._refuse("fsync")
        os.fsync(struct.unpack_from("=Q", body)[0])
        return b""

    def _fsyncdir(self, _: int, __: bytes) -> bytes:
        self._refuse("fsync_folder")
        return b""

    def _lock(self, _: int, __: bytes) -> bytes:
        self._refuse("locks")
        return b""

    def _fallocate(self, _: int, __: bytes) -> bytes:
        raise OSError(errno.EOPNOTSUPP, "fallocate")

    def _opendir(self, node: int, _: bytes) -> bytes:
        self._path(node)
        return struct.pack("=QIi", 0, 0, 0)

    def _readdir(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("=QQI", body)
        here = Path(self._path(node))
        names = [".", "..", *sorted(each.name for each in here.iterdir())]
        found = b""
        for number, name in enumerate(names[offset:], offset + 1):
            encoded = os.fsencode(name)
            one = struct.pack("=QQII", number, number, len(encoded), 0) + encoded
            one += bytes(-len(one) % 8)
            if len(found) + len(one) > size:
                break
            found += one
        return found

    def _statfs(self, node: int, _: bytes) -> bytes:
        disk = os.statvfs(self._path(node))
        return struct.pack(
            "=QQQQQIIII6I",
            disk.f_blocks, disk.f_bfree, disk.f_bavail, disk.f_files, disk.f_ffree,
            disk.f_bsize, disk.f_namemax, disk.f_frsize, 0, *[0] * 6,
        )  # fmt: skip


def _attr(status: os.stat_result) -> bytes:
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return struct.pack(
        "=QQQQQQIIIIIIIIII",
        status.st_ino, status.st_size, status.st_blocks,
        *(each // 10**9 for each in times), *(each % 10**9 for each in times),
        status.st_mode, status.st_nlink, status.st_uid, status.st_gid, 0, 4096, 0,
    )  # fmt: skip


def main() -> None:
    folder, backing, *faults = sys.argv[1:]
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    name, target = b"lacking", os.fsencode(folder)
    if LIBC.mount(name, target, b"fuse.lacking", 0, options.encode()):
        sys.exit(f"FUSE cannot be mounted: {os.strerror(ctypes.get_errno())}")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    FuseServer(device, backing, set(faults)).run()


if __name__ == "__main__":
    main()
