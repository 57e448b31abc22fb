#define _GNU_SOURCE
#include "CProcess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

// Two files of one mebibyte: enough to see why a datastore stopped, within the state directory's
// bound.
enum { LOG_LIMIT = 1024 * 1024 };
static const uint64_t STOP_GRACE = 10ULL * 1000000000ULL;

struct supervisor {
    pid_t child;
    int control;
    int log_input;
    int log_file;
    size_t log_count;
    const char *log_path;
    int timer;
    int is_bound;
    // Once reaped, the child's number may belong to somebody else.
    int has_ended;
};

static void tell(struct supervisor *self, char kind, uint64_t number) {
    unsigned char message[9];
    message[0] = (unsigned char)kind;
    for (int index = 0; index < 8; index++) message[1 + index] = (unsigned char)(number >> 8 * index);
    if (self->control >= 0) send(self->control, message, sizeof message, MSG_NOSIGNAL);
}

static void set_timer(struct supervisor *self, uint64_t instant) {
    struct itimerspec when;
    memset(&when, 0, sizeof when);
    when.it_value.tv_sec = (time_t)(instant / 1000000000U);
    when.it_value.tv_nsec = (long)(instant % 1000000000U);
    timerfd_settime(self->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void open_log(struct supervisor *self) {
    self->log_file = open(self->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct stat facts;
    self->log_count =
        self->log_file >= 0 && fstat(self->log_file, &facts) == 0 ? (size_t)facts.st_size : 0;
}

static void rotate_log(struct supervisor *self) {
    char old[4096];
    if (self->log_file >= 0) close(self->log_file);
    snprintf(old, sizeof old, "%s.1", self->log_path);
    rename(self->log_path, old);
    open_log(self);
}

// Moves what the process printed into the log. A full disk loses log lines, nothing else.
static void pump_log(struct supervisor *self) {
    char buffer[16384];
    ssize_t count = read(self->log_input, buffer, sizeof buffer);
    if (count > 0) {
        if (self->log_count + (size_t)count > LOG_LIMIT) rotate_log(self);
        if (self->log_file >= 0 && write(self->log_file, buffer, (size_t)count) > 0) {
            self->log_count += (size_t)count;
        }
    } else if (count == 0 || (errno != EINTR && errno != EAGAIN)) {
        close(self->log_input);
        self->log_input = -1;
    }
}

// A message, or the end of the parent. A bound process does not outlive its parent even where the
// death signal was lost to a change of credentials.
static void take_control(struct supervisor *self) {
    unsigned char message[9];
    ssize_t count = recv(self->control, message, sizeof message, 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
        close(self->control);
        self->control = -1;
        if (self->is_bound && !self->has_ended) kill(self->child, SIGKILL);
        return;
    }
    if (count != sizeof message) return;
    uint64_t number = 0;
    for (int index = 8; index >= 1; index--) number = number << 8 | message[index];
    if (message[0] == CPROCESS_RELEASE) {
        self->is_bound = 0;
        prctl(PR_SET_PDEATHSIG, 0);
        set_timer(self, 0);
        tell(self, CPROCESS_RELEASED, 0);
    } else if (message[0] == CPROCESS_DEADLINE && self->is_bound) {
        set_timer(self, number);
    }
}

static void start_child(
    struct supervisor *self, int output, const sigset_t *old, char *const argv[],
    char *const envp[]) {
    pid_t parent = getpid();
    self->child = fork();
    if (self->child != 0) return;
    // This binding is never undone: whoever kills the supervisor also stops the process, and the
    // daemon starts it again from its data.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    sigprocmask(SIG_SETMASK, old, NULL);
    int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(output, 1);
    dup2(output, 2);
    syscall(SYS_close_range, 3U, ~0U, 0U);
    execve(argv[0], argv, envp);
    dprintf(2, "cannot run %s: errno %d\n", argv[0], errno);
    _exit(127);
}

int cprocess_supervise(
    pid_t parent, uint64_t deadline, const char *log_path, char *const argv[],
    char *const envp[]) {
    struct supervisor self = {.control = 0, .log_path = log_path, .is_bound = 1};
    // An executable with file capabilities loses the death signal at exec, so it is set again.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return 127;
    prctl(PR_SET_NAME, "evpn-supervise");
    sigset_t mask, old;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, &old);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    self.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int output[2];
    if (signals < 0 || self.timer < 0 || pipe2(output, O_CLOEXEC) != 0) return 126;
    open_log(&self);
    self.log_input = output[0];
    start_child(&self, output[1], &old, argv, envp);
    close(output[1]);
    if (self.child < 0) return 126;
    tell(&self, CPROCESS_STARTED, (uint64_t)self.child);
    set_timer(&self, deadline);
    int status = 0;
    while (!self.has_ended || self.log_input >= 0) {
        struct pollfd set[4] = {
            {.fd = signals, .events = POLLIN},
            {.fd = self.control, .events = POLLIN},
            {.fd = self.timer, .events = POLLIN},
            {.fd = self.log_input, .events = POLLIN},
        };
        // A grandchild may hold the log's pipe; its last lines are not worth waiting for.
        int ready = poll(set, 4, self.has_ended ? 200 : -1);
        if (ready == 0) break;
        if (ready < 0) continue;
        if (set[0].revents != 0) {
            struct signalfd_siginfo info;
            while (read(signals, &info, sizeof info) == sizeof info) {
                if (info.ssi_signo == SIGCHLD) {
                    if (waitpid(self.child, &status, WNOHANG) == self.child) self.has_ended = 1;
                } else if (info.ssi_signo == SIGTERM && !self.has_ended) {
                    kill(self.child, SIGTERM);
                    set_timer(&self, cprocess_boot_time() + STOP_GRACE);
                }
            }
        }
        if (set[1].revents != 0) take_control(&self);
        if (set[2].revents != 0) {
            uint64_t ticks;
            if (read(self.timer, &ticks, sizeof ticks) == sizeof ticks && !self.has_ended) {
                kill(self.child, SIGKILL);
            }
        }
        if (set[3].revents != 0) pump_log(&self);
    }
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    tell(&self, CPROCESS_EXITED, (uint64_t)code);
    return code;
}
