/* Preloaded library that kills its process at the n-th call that changes a file.
 *
 * Calls count from kill_at(n, is_torn) on. The n-th is not made, or, if torn, only the
 * first half of what it writes.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static long left, torn;

void kill_at(long n, long is_torn)
{
    left = n;
    torn = is_torn;
}

static int is_last(void)
{
    return left > 0 && --left == 0;
}

static void end(void)
{
    kill(getpid(), SIGKILL);
}

ssize_t pwrite64(int file, const void *from, size_t size, off64_t offset)
{
    if (is_last()) {
        if (torn)
            syscall(SYS_pwrite64, file, from, size / 2, offset);
        end();
    }
    return syscall(SYS_pwrite64, file, from, size, offset);
}

ssize_t pwrite(int file, const void *from, size_t size, off_t offset)
{
    return pwrite64(file, from, size, offset);
}

ssize_t write(int file, const void *from, size_t size)
{
    if (is_last()) {
        if (torn)
            syscall(SYS_write, file, from, size / 2);
        end();
    }
    return syscall(SYS_write, file, from, size);
}

int ftruncate64(int file, off64_t size)
{
    if (is_last())
        end();
    return syscall(SYS_ftruncate, file, size);
}

int ftruncate(int file, off_t size)
{
    return ftruncate64(file, size);
}

int fallocate(int file, int mode, off_t offset, off_t size)
{
    if (is_last())
        end();
    return syscall(SYS_fallocate, file, mode, offset, size);
}

int rename(const char *old, const char *new)
{
    if (is_last())
        end();
    return syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
}

int unlink(const char *path)
{
    if (is_last())
        end();
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}
