/* A disk that is slow or broken, for one process: put in front of the C library by LD_PRELOAD.
 *
 * The file that KOINE_FAULTS_DISK names says what is wrong, in one line, and is read anew at each call:
 *   (empty or no file)   nothing
 *   slow SECONDS         each sync takes that long
 *   broken               each sync fails with EIO
 *   read-only            each write to a regular file fails with EROFS
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int wrong(char *line, size_t size)
{
    const char *path = getenv("KOINE_FAULTS_DISK");
    int saved = errno, length = 0;
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        length = (int)read(file, line, size - 1);
        close(file);
    }
    errno = saved;
    line[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static int fails_to_sync(void)
{
    char line[64];
    double seconds;
    if (!wrong(line, sizeof line))
        return 0;
    if (sscanf(line, "slow %lf", &seconds) == 1) {
        struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
        while (nanosleep(&pause, &pause) == -1 && errno == EINTR)
            ;
        return 0;
    }
    if (strncmp(line, "broken", 6) == 0) {
        errno = EIO;
        return 1;
    }
    return 0;
}

static int fails_to_write(int file)
{
    char line[64];
    struct stat what;
    if (!wrong(line, sizeof line) || strncmp(line, "read-only", 9) != 0)
        return 0;
    if (file <= 2 || fstat(file, &what) != 0 || !S_ISREG(what.st_mode))
        return 0;
    errno = EROFS;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { return fails_to_sync() ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return fails_to_sync() ? -1 : REAL(fdatasync)(file); }

ssize_t write(int file, const void *bytes, size_t size)
{
    return fails_to_write(file) ? -1 : REAL(write)(file, bytes, size);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    return fails_to_write(file) ? -1 : REAL(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at)
{
    return fails_to_write(file) ? -1 : REAL(pwrite64)(file, bytes, size, at);
}
