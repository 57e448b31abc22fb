#define _GNU_SOURCE
#include "CProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Signal handlers and masks are the parent's business; a child starts without them.
static void reset_signals(void) {
    for (int number = 1; number < 32; number++) {
        if (number != SIGKILL && number != SIGSTOP) signal(number, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

// Places the three standard descriptors and closes the others. The sources are moved out of the
// range 0-2 first, so that no placement overwrites a later source.
static void place_descriptors(int in, int out, int err) {
    int sources[3] = {in, out, err};
    for (int target = 0; target < 3; target++) {
        if (sources[target] >= 0) sources[target] = fcntl(sources[target], F_DUPFD, 3);
    }
    int null = open("/dev/null", O_RDWR);
    for (int target = 0; target < 3; target++) {
        dup2(sources[target] >= 0 ? sources[target] : null, target);
    }
    syscall(SYS_close_range, 3U, ~0U, 0U);
}

// Reports a failure to exec through a descriptor that a successful exec closes.
struct exec_pipe {
    int read_end;
    int write_end;
};

static int open_exec_pipe(struct exec_pipe *channel) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
    channel->read_end = ends[0];
    channel->write_end = ends[1];
    return 0;
}

pid_t cprocess_start_bound(char *const argv[], char *const envp[], int control) {
    struct exec_pipe channel;
    int opened = open_exec_pipe(&channel);
    if (opened != 0) return opened;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        int problem = -errno;
        close(channel.read_end);
        close(channel.write_end);
        return problem;
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        // The parent may have died before the line above.
        if (getppid() != parent) _exit(127);
        reset_signals();
        setsid();
        // Out of the way of 0-2 first; then each source is used before its number is overwritten.
        int report = fcntl(channel.write_end, F_DUPFD_CLOEXEC, 3);
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        dup2(control, 0);
        dup2(null, 1);
        dup2(null, 2);
        // The only descriptor above 2 that survives the closing; a successful exec closes it.
        dup3(report, 3, O_CLOEXEC);
        fcntl(3, F_SETFD, FD_CLOEXEC);
        syscall(SYS_close_range, 4U, ~0U, 0U);
        execve(argv[0], argv, envp);
        int problem = errno;
        ssize_t ignored = write(3, &problem, sizeof problem);
        (void)ignored;
        _exit(127);
    }
    close(channel.write_end);
    int problem = 0;
    ssize_t count;
    do {
        count = read(channel.read_end, &problem, sizeof problem);
    } while (count < 0 && errno == EINTR);
    close(channel.read_end);
    if (count == sizeof problem) {
        waitpid(child, NULL, 0);
        return -problem;
    }
    return child;
}

uint64_t cprocess_boot_time(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static size_t drain(int *descriptor, char *buffer, size_t capacity, size_t filled) {
    char spill[4096];
    char *target = filled < capacity ? buffer + filled : spill;
    size_t room = filled < capacity ? capacity - filled : sizeof spill;
    ssize_t count = read(*descriptor, target, room);
    if (count > 0) return target == spill ? filled : filled + (size_t)count;
    if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
        close(*descriptor);
        *descriptor = -1;
    }
    return filled;
}

void cprocess_run(
    char *const argv[], char *const envp[], int limit_ms, int interrupt, char *out,
    size_t out_capacity, char *err, size_t err_capacity, struct cprocess_result *result) {
    memset(result, 0, sizeof *result);
    int outs[2], errs[2];
    if (pipe2(outs, O_CLOEXEC) != 0) {
        result->status = -errno;
        return;
    }
    if (pipe2(errs, O_CLOEXEC) != 0) {
        result->status = -errno;
        close(outs[0]);
        close(outs[1]);
        return;
    }
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(127);
        reset_signals();
        place_descriptors(-1, outs[1], errs[1]);
        execve(argv[0], argv, envp);
        dprintf(2, "cannot run %s: errno %d", argv[0], errno);
        _exit(127);
    }
    int fork_error = errno;
    close(outs[1]);
    close(errs[1]);
    if (child < 0) {
        result->status = -fork_error;
        close(outs[0]);
        close(errs[0]);
        return;
    }
    uint64_t end = cprocess_boot_time() + (uint64_t)limit_ms * 1000000U;
    while (outs[0] >= 0 || errs[0] >= 0) {
        uint64_t now = cprocess_boot_time();
        if (now >= end) {
            result->timed_out = 1;
            break;
        }
        struct pollfd set[3] = {
            {.fd = outs[0], .events = POLLIN},
            {.fd = errs[0], .events = POLLIN},
            {.fd = interrupt, .events = POLLIN},
        };
        int ready = poll(set, 3, (int)((end - now) / 1000000U) + 1);
        if (ready < 0 && errno != EINTR) break;
        if (ready <= 0) continue;
        if (set[2].revents != 0) {
            result->interrupted = 1;
            break;
        }
        if (set[0].revents != 0) {
            result->out_count = drain(&outs[0], out, out_capacity, result->out_count);
        }
        if (set[1].revents != 0) {
            result->err_count = drain(&errs[0], err, err_capacity, result->err_count);
        }
    }
    if (result->timed_out || result->interrupted) kill(child, SIGKILL);
    if (outs[0] >= 0) close(outs[0]);
    if (errs[0] >= 0) close(errs[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    result->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

uint64_t cprocess_start_time(pid_t pid) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return 0;
    ssize_t count = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (count <= 0) return 0;
    text[count] = 0;
    // The name in parentheses may hold anything; the fields after it start with the state (3).
    char *cursor = strrchr(text, ')');
    if (cursor == NULL) return 0;
    cursor += 2;
    if (*cursor == 'Z' || *cursor == 'X') return 0;
    for (int field = 3; field < 22; field++) {
        cursor = strchr(cursor, ' ');
        if (cursor == NULL) return 0;
        cursor++;
    }
    return strtoull(cursor, NULL, 10);
}

int cprocess_watch(pid_t pid) {
    int descriptor = (int)syscall(SYS_pidfd_open, pid, 0);
    return descriptor < 0 ? -errno : descriptor;
}

void cprocess_name_thread(const char *name) {
    prctl(PR_SET_NAME, name);
}
