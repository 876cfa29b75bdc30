/* The clock of a directory that is days ahead: what a file's time was, and how many days later it is (LATER_DAYS). The
 * program reads the store's clock off a file that it has just written. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int statx(int directory, const char *path, int flags, unsigned mask, struct statx *found)
{
    int done = syscall(SYS_statx, directory, path, flags, mask, found);
    const char *days = getenv("LATER_DAYS");
    if (done == 0 && days)
        found->stx_mtime.tv_sec += atol(days) * 24 * 60 * 60;
    return done;
}
