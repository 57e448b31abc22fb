// A machine whose clocks are wrong: preloaded into a daemon, it moves CLOCK_REALTIME by
// WRONG_CLOCK_SECONDS, and CLOCK_BOOTTIME by the seconds that the file WRONG_CLOCK_SLEPT holds at the
// moment, as if the machine had slept for so long. It leaves every other clock alone. (libfaketime changes the environment before
// main, and then a Swift program does not find its arguments.)
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static time_t offset(void) {
    static time_t seconds;
    static int is_known;
    if (!is_known) {
        const char *text = getenv("WRONG_CLOCK_SECONDS");
        seconds = text ? atoll(text) : 0;
        is_known = 1;
    }
    return seconds;
}

// Read anew at every call: a test writes the file while the daemon runs.
static time_t slept(void) {
    static int file = -2;
    if (file == -2) {
        const char *path = getenv("WRONG_CLOCK_SLEPT");
        file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    }
    char text[32] = {0};
    if (file < 0 || pread(file, text, sizeof text - 1, 0) <= 0) return 0;
    return atoll(text);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int status = (int)syscall(SYS_clock_gettime, clock, time);
    if (status == 0 && clock == CLOCK_REALTIME) time->tv_sec += offset();
    if (status == 0 && clock == CLOCK_BOOTTIME) time->tv_sec += slept();
    return status;
}

// Absolute times of a timer are the daemon's own.
int timerfd_settime(int timer, int flags, const struct itimerspec *wanted, struct itimerspec *old) {
    struct itimerspec real = *wanted;
    if (flags & TFD_TIMER_ABSTIME && (real.it_value.tv_sec || real.it_value.tv_nsec)) {
        real.it_value.tv_sec -= slept();
        // Long past, and not zero, which would disarm it.
        if (real.it_value.tv_sec < 0) real.it_value = (struct timespec){0, 1};
    }
    return (int)syscall(SYS_timerfd_settime, timer, flags, &real, old);
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int status = clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return status;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}
