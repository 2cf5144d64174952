/* A disk that does not confirm what was written, for LD_PRELOAD.
 *
 * Once the file $FSYNC_FAILS exists, the first fsync of a file whose name ends with $FSYNC_OF fails with EIO, and what
 * was written to it since the last good one is gone: it reads as zeros. Later ones succeed, as they do on Linux, which
 * forgets what it could not write. $FSYNC_LOG gets a line for each fsync of that file from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECES 65536

static struct { off64_t at; size_t length; } unsynced[PIECES];
static int pieces, has_failed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static int is_ours(int fd) {
    const char *of = getenv("FSYNC_OF");
    char link[64], path[4096];
    if (!of) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < (ssize_t)strlen(of)) return 0;
    path[length] = 0;
    return strcmp(path + length - strlen(of), of) == 0;
}

static void note(int fd, off64_t at, ssize_t length) {
    if (length <= 0 || !is_ours(fd)) return;
    pthread_mutex_lock(&lock);
    if (pieces == PIECES) {
        static const char full[] = "too many writes to remember\n";
        (void)!write(2, full, sizeof full - 1);
        abort();
    }
    unsynced[pieces].at = at;
    unsynced[pieces++].length = (size_t)length;
    pthread_mutex_unlock(&lock);
}

static ssize_t plain_pwrite(int fd, const void *bytes, size_t length, off64_t at) {
    static ssize_t (*next)(int, const void *, size_t, off64_t);
    if (!next) next = real("pwrite64");
    return next(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    ssize_t done = plain_pwrite(fd, bytes, length, at);
    note(fd, at, done);
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

ssize_t write(int fd, const void *bytes, size_t length) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = real("write");
    ssize_t done = next(fd, bytes, length);
    if (done > 0 && getenv("FSYNC_OF")) {
        int before = errno;
        off64_t end = lseek64(fd, 0, SEEK_CUR);
        if (end >= done) note(fd, end - done, done);
        errno = before;
    }
    return done;
}

static void forget(int fd) {
    static const char zeros[4096];
    for (int i = 0; i < pieces; i++)
        for (size_t done = 0; done < unsynced[i].length;) {
            size_t more = unsynced[i].length - done;
            if (more > sizeof zeros) more = sizeof zeros;
            if (plain_pwrite(fd, zeros, more, unsynced[i].at + (off64_t)done) <= 0) abort();
            done += more;
        }
}

static void say(const char *line) {
    int log = open(getenv("FSYNC_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = real("write");
    if (log < 0 || next(log, line, strlen(line)) < 0) abort();
    close(log);
}

static int synced(int fd, const char *name) {
    int (*next)(int) = real(name);
    if (!is_ours(fd)) return next(fd);
    int result = 0;
    pthread_mutex_lock(&lock);
    if (has_failed) {
        say("again\n");
        result = next(fd);
    } else if (access(getenv("FSYNC_FAILS"), F_OK) == 0) {
        has_failed = 1;
        forget(fd);
        say("EIO\n");
        errno = EIO;
        result = -1;
    } else {
        result = next(fd);
        pieces = 0;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
