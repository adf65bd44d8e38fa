/* A wall clock that somebody else sets: put before a program by LD_PRELOAD.
 *
 * The file that CHAOS_CLOCK names holds three numbers (doubles): a moment, by how many seconds the clock is off, and how much faster
 * than time it has run since that moment. It is mapped into memory, so that setting it costs the program nothing.
 *
 * Clocks that measure and whatever waits are left alone. libfaketime would do all this and more: it also replaces
 * pthread_cond_timedwait, by which CPython hands its lock from thread to thread, and a node becomes many times as slow.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile double *setting;

__attribute__((constructor)) static void open_setting(void)
{
    const char *path = getenv("CHAOS_CLOCK");
    int descriptor = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0)
        _exit(71);
    setting = mmap(NULL, 3 * sizeof(double), PROT_READ, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (setting == MAP_FAILED)
        _exit(71);
}

int clock_gettime(clockid_t clock, struct timespec *result)
{
    int outcome = (int)syscall(SYS_clock_gettime, clock, result);
    if (outcome == 0 && setting && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        double now = (double)result->tv_sec + (double)result->tv_nsec / 1e9;
        double whole, off = setting[1] + (now - setting[0]) * setting[2] + (double)result->tv_nsec / 1e9;
        double part = modf(off, &whole);
        if (part < 0) {
            part += 1;
            whole -= 1;
        }
        result->tv_sec += (time_t)whole;
        result->tv_nsec = (long)(part * 999999999.0);
    }
    return outcome;
}

int gettimeofday(struct timeval *restrict result, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    int outcome = clock_gettime(CLOCK_REALTIME, &now);
    result->tv_sec = now.tv_sec;
    result->tv_usec = now.tv_nsec / 1000;
    return outcome;
}

time_t time(time_t *result)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
