/* Makes one call on a file below a folder fail, or the clock jump back behind one: loaded by LD_PRELOAD, told by the environment.
 *
 * SOAK_PREFIX  calls on paths that begin with it are counted, by path or by descriptor
 * SOAK_CALL    which of them fails (from 1); 0 counts and fails none
 * SOAK_ERRNO   how it fails; 0 sets the clock back instead, for good
 * SOAK_BACK    seconds that the clock is set back
 * SOAK_TOKEN   a file that says that it happened: who makes it is the one process to which it happens
 * SOAK_COUNT   a file that gets the number of calls when the process ends
 *
 * A read does not fail for want of space: then the next call that writes does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls, over;
static atomic_long back;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static int below(const char *path) {
    const char *prefix = getenv("SOAK_PREFIX");
    return prefix && path && strncmp(path, prefix, strlen(prefix)) == 0;
}

static int open_below(int descriptor) {
    char link[64], path[4096];
    if (!getenv("SOAK_PREFIX")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* Whether this call fails; errno is set then. */
static int fails(int counts, int writes) {
    if (!counts) return 0;
    long call = atomic_fetch_add(&calls, 1) + 1, due = number("SOAK_CALL"), failure = number("SOAK_ERRNO");
    if (due == 0 || call < due || atomic_load(&over) || (failure == ENOSPC && !writes)) return 0;
    atomic_store(&over, 1);
    const char *token = getenv("SOAK_TOKEN");
    long made = token ? syscall(SYS_openat, AT_FDCWD, token, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644) : -1;
    if (made < 0) return 0;
    syscall(SYS_close, (int)made);
    if (failure == 0) atomic_store(&back, number("SOAK_BACK"));
    else errno = (int)failure;
    return failure != 0;
}

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...) {                                      \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;       \
        va_end(more);                                                                 \
        return fails(below(path), writes(flags)) ? -1 : REAL(name)(path, flags, mode); \
    }
#define OPENAT(name)                                                                  \
    int name(int folder, const char *path, int flags, ...) {                          \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;       \
        va_end(more);                                                                 \
        return fails(below(path), writes(flags)) ? -1 : REAL(name)(folder, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int file, void *to, size_t size) {
    return fails(open_below(file), 0) ? -1 : REAL(read)(file, to, size);
}
ssize_t pread64(int file, void *to, size_t size, off64_t from) {
    return fails(open_below(file), 0) ? -1 : REAL(pread64)(file, to, size, from);
}
ssize_t write(int file, const void *from, size_t size) {
    return fails(open_below(file), 1) ? -1 : REAL(write)(file, from, size);
}
ssize_t pwrite64(int file, const void *from, size_t size, off64_t to) {
    return fails(open_below(file), 1) ? -1 : REAL(pwrite64)(file, from, size, to);
}
int fsync(int file) { return fails(open_below(file), 1) ? -1 : REAL(fsync)(file); }
int ftruncate64(int file, off64_t size) { return fails(open_below(file), 1) ? -1 : REAL(ftruncate64)(file, size); }
int rename(const char *from, const char *to) { return fails(below(to), 1) ? -1 : REAL(rename)(from, to); }
int link(const char *from, const char *to) { return fails(below(to), 1) ? -1 : REAL(link)(from, to); }
int mkdir(const char *path, mode_t mode) { return fails(below(path), 1) ? -1 : REAL(mkdir)(path, mode); }
int unlink(const char *path) { return fails(below(path), 1) ? -1 : REAL(unlink)(path); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec -= atomic_load(&back);
    return (int)result;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}

__attribute__((destructor)) static void tell(void) {
    char text[32];
    const char *path = getenv("SOAK_COUNT");
    if (!path) return;
    int length = snprintf(text, sizeof text, "%ld", atomic_load(&calls));
    long file = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
    if (file >= 0 && syscall(SYS_write, (int)file, text, (size_t)length) == length) syscall(SYS_close, (int)file);
}
