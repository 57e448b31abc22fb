#define _GNU_SOURCE
#include "CProcess.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Work under a lease. The keeper stands between the command that holds the lease and the job:
//
//   the command dies      -> the keeper kills the job's process group
//   the deadline nears    -> SIGTERM to the group; at the deadline SIGKILL, also when the command
//                            is stopped or hangs
//   the keeper dies       -> the kernel kills the job
//   the job ends          -> the keeper kills what is left of its group, says whether the lease's
//                            end was the reason, and ends with its code

static const uint64_t TERM_AHEAD = 2ULL * 1000000000ULL;

static uint64_t boot_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void run_job(char *const argv[], char *const envp[], pid_t keeper) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != keeper) _exit(126);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    execvpe(argv[0], argv, envp);
    _exit(errno == ENOENT ? 127 : 126);
}

// A job may end itself by the same signals that end a lease, or by a code of its own when it is
// told that the lease ends: only the keeper knows which came first.
static void tell_end(int control, int was_lost) {
    char message[9] = {was_lost ? CPROCESS_LOST : CPROCESS_ENDED};
    if (control >= 0) send(control, message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int keep(pid_t job, int watch, int parent, int control, uint64_t deadline) {
    int terminated = 0, parent_is_there = 1;
    for (;;) {
        uint64_t now = boot_now();
        uint64_t due = deadline;
        struct pollfd end = {.fd = watch, .events = POLLIN};
        if (poll(&end, 1, 0) > 0) {
            // What has ended already is not lost.
            due = now;
        } else if (now >= deadline) {
            kill(-job, SIGKILL);
            terminated = 1;
            due = now + 1000000000ULL;
        } else if (now + TERM_AHEAD >= deadline) {
            if (!terminated) kill(-job, SIGTERM);
            terminated = 1;
        } else {
            due = deadline - TERM_AHEAD;
        }
        struct pollfd wanted[3] = {
            {.fd = watch, .events = POLLIN},
            {.fd = control, .events = POLLIN},
            {.fd = parent_is_there ? parent : -1, .events = POLLIN},
        };
        uint64_t wait = (due - now) / 1000000ULL + 1;
        poll(wanted, 3, wait > 60000 ? 60000 : (int)wait);
        if (wanted[2].revents) {
            kill(-job, SIGKILL);
            parent_is_there = 0;
        }
        if (wanted[1].revents) {
            struct { char kind; unsigned char number[8]; } message;
            ssize_t count = read(control, &message, sizeof message);
            if (count <= 0) {
                kill(-job, SIGKILL);
                control = -1;
            } else if (message.kind == 'T') {
                kill(-job, SIGTERM);
            } else if (message.kind == 'K') {
                kill(-job, SIGKILL);
            } else if (message.kind == 'D' && count == sizeof message) {
                uint64_t number = 0;
                for (int index = 7; index >= 0; index--)
                    number = number << 8 | message.number[index];
                // A deadline that passed, or of which the job was told, stays.
                if (boot_now() < deadline && !terminated) deadline = number;
            }
        }
        if (wanted[0].revents) {
            int status = 0;
            while (waitpid(job, &status, 0) < 0 && errno == EINTR) continue;
            kill(-job, SIGKILL);
            tell_end(control, terminated);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
    }
}

pid_t cprocess_start_job(
    char *const argv[], char *const envp[], int control, uint64_t deadline) {
    int parent = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (parent < 0) return -errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t keeper = fork();
    if (keeper == 0) {
        // The terminal's signals are for the command, which tells the keeper what to do.
        setpgid(0, 0);
        pid_t self = getpid();
        pid_t job = fork();
        if (job == 0) run_job(argv, envp, self);
        if (job < 0) _exit(126);
        int watch = (int)syscall(SYS_pidfd_open, job, 0);
        if (watch < 0) {
            kill(job, SIGKILL);
            _exit(126);
        }
        // The job may not have made its group yet.
        setpgid(job, job);
        dup2(control, 3);
        dup2(parent, 4);
        dup2(watch, 5);
        syscall(SYS_close_range, 6U, ~0U, 0U);
        _exit(keep(job, 5, 4, 3, deadline));
    }
    int failure = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(parent);
    return keeper < 0 ? -failure : keeper;
}

static volatile sig_atomic_t ending = 0;

static void note_ending(int number) { ending = number; }

void cprocess_catch_ending(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = note_ending;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

int cprocess_ending(void) { return ending; }

int cprocess_collect(pid_t pid) {
    int status = 0;
    pid_t got = waitpid(pid, &status, WNOHANG);
    if (got == 0 || (got < 0 && errno == EINTR)) return -1;
    if (got < 0) return 126;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
