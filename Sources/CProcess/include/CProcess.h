#ifndef CPROCESS_H
#define CPROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/types.h>

// fork, exec, prctl and their error paths. Between fork and exec only async-signal-safe functions
// may run, so this part of the project is C.

// Starts argv[0] as a session leader that the kernel kills when the calling THREAD dies: call it
// from a thread that lives as long as the process. Descriptor 0 of the child is `control`; all
// others are closed but for 1 and 2, which are /dev/null. Returns the process id or -errno.
pid_t cprocess_start_bound(char *const argv[], char *const envp[], int control);

// What came of a command that ran to its end.
struct cprocess_result {
    int status;        // exit code, 128 + signal, or -errno when it could not be run
    int timed_out;     // it was killed at the limit
    int interrupted;   // it was killed because `interrupt` became readable
    size_t out_count;  // bytes in `out`; the rest of a longer output is dropped
    size_t err_count;
};

// Runs argv[0] to its end with /dev/null as input, at most `limit_ms` milliseconds, and collects
// what it prints. `interrupt` is a descriptor that ends the wait when readable, or -1.
void cprocess_run(
    char *const argv[], char *const envp[], int limit_ms, int interrupt, char *out,
    size_t out_capacity, char *err, size_t err_capacity, struct cprocess_result *result);

// Messages on the control socket: one byte of kind and eight of little-endian number.
enum {
    CPROCESS_RELEASE = 'R',   // to the supervisor: survive the parent from now on
    CPROCESS_DEADLINE = 'D',  // to the supervisor: boot-clock nanoseconds, 0 for none
    CPROCESS_STARTED = 's',   // from it: the process id
    CPROCESS_RELEASED = 'r',  // from it
    CPROCESS_EXITED = 'x',    // from it: exit code, or 128 + signal
};

// The supervisor's life, in the process that cprocess_start_bound started. `deadline` is in
// nanoseconds of CLOCK_BOOTTIME, 0 for none. Returns the exit code of the process.
//
//   bound     parent dies        -> the kernel kills us, and with us the process
//             deadline passes    -> the process is killed
//   released  parent dies        -> nothing
//   always    SIGTERM            -> the process gets SIGTERM, SIGKILL after ten seconds
//             we die             -> the kernel kills the process
int cprocess_supervise(
    pid_t parent, uint64_t deadline, const char *log_path, char *const argv[],
    char *const envp[]);

// The start time of a process in clock ticks since boot, 0 when there is no such process.
uint64_t cprocess_start_time(pid_t pid);

// A descriptor that becomes readable when the process ends, or -errno.
int cprocess_watch(pid_t pid);

enum { CPROCESS_ENDED = 'E', CPROCESS_LOST = 'L' };

// Starts argv[0] (searched in PATH) as work under a lease: it is killed with its process group when
// `deadline` (nanoseconds of CLOCK_BOOTTIME) passes, or when this process dies. `control` is the
// keeper's end of a stream: 'D' and eight little-endian bytes move the deadline, 'T' terminates
// and 'K' kills. The last thing that the keeper writes there is CPROCESS_ENDED, or CPROCESS_LOST
// when it signalled the job because the deadline was near or over. Returns the keeper's process id,
// which ends with the job's exit code, or -errno.
pid_t cprocess_start_job(
    char *const argv[], char *const envp[], int control, uint64_t deadline);

// The exit code of a child that ended, or -1 while it runs.
int cprocess_collect(pid_t pid);

// From now on SIGTERM, SIGINT and SIGHUP are only noted: cprocess_ending gives the last one, or 0.
void cprocess_catch_ending(void);
int cprocess_ending(void);

// Names the calling thread, at most 15 bytes.
void cprocess_name_thread(const char *name);

// Nanoseconds of CLOCK_BOOTTIME.
uint64_t cprocess_boot_time(void);

#endif
