#ifndef CLINUX_H
#define CLINUX_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

/*
 * Kernel interfaces that Swift cannot import: variadic calls, control messages and structs behind
 * feature macros. Functions return a result or a negative errno; none keeps state.
 */

/* TUN devices, <linux/if_tun.h> */

/* Names the device in name (IFNAMSIZ bytes, written back) and attaches one queue to it. */
int clinux_tun_attach(int fd, char *name, int multi_queue);

enum clinux_tun_offload {
    CLINUX_OFFLOAD_NONE = 0,
    CLINUX_OFFLOAD_TCP = 1,
    CLINUX_OFFLOAD_TCP_UDP = 2,
};
int clinux_tun_set_offload(int fd, enum clinux_tun_offload offload);

/* UDP sockets */

/* An IPv6 address, or an IPv4 one as ::ffff:a.b.c.d. ip is in network order, port in host order. */
struct clinux_address {
    uint8_t ip[16];
    uint16_t port;
    uint16_t reserved;
    uint32_t scope;
};

struct clinux_socket_options {
    uint32_t firewall_mark;
    int reuse_port;
    int buffer_bytes;
};

/*
 * A non-blocking UDP socket for both families (or IPv4 alone where IPv6 is absent: *family says
 * which), bound to port, receiving coalesced datagrams where the kernel can.
 */
int clinux_udp_open(
    const struct clinux_address *bind_to, const struct clinux_socket_options *options,
    int *family);
int clinux_udp_port(int fd);

/* From now on the socket receives from one address only. */
int clinux_udp_connect(int fd, int family, const struct clinux_address *to);

/* Lets further sockets of this user bind the port as well (SO_REUSEPORT). */
int clinux_udp_share_port(int fd);

/* Whether IP may cut the datagrams of the socket; without, larger ones than the link are refused. */
void clinux_udp_set_fragmentation(int fd, int family, int allowed);

/* The MTU of the route to an address, by connecting a socket that sends nothing. */
int clinux_route_mtu(const struct clinux_address *to, uint32_t firewall_mark);

struct clinux_outgoing {
    const uint8_t *bytes;
    uint32_t count;
    /* Every datagram but the last has this many bytes; 0 for a single datagram. */
    uint32_t segment;
    /* Without a port: where the socket is connected to. */
    struct clinux_address to;
};

enum { CLINUX_SEND_LIMIT = 64 };

/* Sends up to CLINUX_SEND_LIMIT messages; returns how many the kernel took. */
int clinux_udp_send(int fd, int family, const struct clinux_outgoing *messages, int count);

/* Sends one datagram that dies after so many hops. */
int clinux_udp_send_short(int fd, int family, const struct clinux_outgoing *message, int hops);

struct clinux_incoming {
    uint8_t *bytes;
    uint32_t capacity;
    uint32_t count;
    uint32_t segment;
    uint32_t is_truncated;
    struct clinux_address from;
};

enum { CLINUX_RECEIVE_LIMIT = 8 };

/* Fills up to CLINUX_RECEIVE_LIMIT messages without waiting; returns how many. */
int clinux_udp_receive(int fd, struct clinux_incoming *messages, int count);

/* Threads and random numbers (GNU extensions of the C library) */

/* Names the calling thread and, unless processor is negative, keeps it on that CPU. */
void clinux_thread_configure(const char *name, int processor);

/* How many CPUs the calling thread may run on; at least 1. */
int clinux_processor_count(void);

/* getrandom(2): the bytes written, or a negative errno. */
int clinux_random(void *bytes, size_t count);

/* pipe2(2) with O_CLOEXEC: 0 or a negative errno. */
int clinux_pipe(int ends[2]);

/* From now on the kernel writes no core file of this process, and other processes of its user cannot
   look into its memory (prctl(2), PR_SET_DUMPABLE). A crash ends it at once: Swift's runtime, where it
   finds its backtracer, would first print registers and what they point at, and take its time.
   Programs that it starts are not affected. */
void clinux_forbid_core(void);

/* Files over files; both return 0 or a negative errno. */

/* Lays the file at source over the one at target (mount(2), MS_BIND). */
int clinux_bind_mount(const char *source, const char *target);

/* Takes the uppermost file off target, also while somebody has it open. */
int clinux_unmount(const char *target);

#endif
