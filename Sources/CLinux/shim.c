#define _GNU_SOURCE

#include "CLinux.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

int clinux_tun_attach(int fd, char *name, int multi_queue) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (multi_queue) request.ifr_flags |= IFF_MULTI_QUEUE;
    if (ioctl(fd, TUNSETIFF, &request) < 0) return -errno;
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return 0;
}

int clinux_tun_set_offload(int fd, enum clinux_tun_offload offload) {
    unsigned flags = 0;
    if (offload != CLINUX_OFFLOAD_NONE) flags = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    if (offload == CLINUX_OFFLOAD_TCP_UDP) flags |= TUN_F_USO4 | TUN_F_USO6;
    return ioctl(fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static socklen_t to_kernel(
    const struct clinux_address *address, int family, struct sockaddr_storage *storage) {
    memset(storage, 0, sizeof(struct sockaddr_in6));
    if (family == AF_INET) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)storage;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(address->port);
        memcpy(&v4->sin_addr, address->ip + 12, 4);
        return sizeof *v4;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)storage;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(address->port);
    v6->sin6_scope_id = address->scope;
    memcpy(&v6->sin6_addr, address->ip, 16);
    return sizeof *v6;
}

static void from_kernel(const struct sockaddr_storage *storage, struct clinux_address *address) {
    memset(address, 0, sizeof *address);
    if (storage->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)storage;
        memcpy(address->ip, mapped_prefix, 12);
        memcpy(address->ip + 12, &v4->sin_addr, 4);
        address->port = ntohs(v4->sin_port);
    } else {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)storage;
        memcpy(address->ip, &v6->sin6_addr, 16);
        address->port = ntohs(v6->sin6_port);
        /* Global addresses compare equal whatever interface they came in by. */
        if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) address->scope = v6->sin6_scope_id;
    }
}

static void set_buffer(int fd, int forced, int plain, int bytes) {
    if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) < 0) {
        setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
    }
}

static int configure(
    int fd, int family, const struct clinux_address *bind_to,
    const struct clinux_socket_options *options) {
    int on = 1, off = 0, fragment = IP_PMTUDISC_DONT;
    if (family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) {
        return -errno;
    }
    if (options->reuse_port &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0) {
        return -errno;
    }
    if (options->firewall_mark != 0 &&
        setsockopt(
            fd, SOL_SOCKET, SO_MARK, &options->firewall_mark, sizeof options->firewall_mark) < 0) {
        return -errno;
    }
    if (options->buffer_bytes > 0) {
        set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options->buffer_bytes);
        set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options->buffer_bytes);
    }
    /* A tunnel's outer packets may be fragmented, as other WireGuard implementations allow. */
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &fragment, sizeof fragment);
    fragment = IPV6_PMTUDISC_DONT;
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &fragment, sizeof fragment);
    }
    /* Absent before Linux 5.0: datagrams then arrive one by one. */
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    struct sockaddr_storage storage;
    socklen_t length = to_kernel(bind_to, family, &storage);
    return bind(fd, (struct sockaddr *)&storage, length) < 0 ? -errno : 0;
}

int clinux_udp_open(
    const struct clinux_address *bind_to, const struct clinux_socket_options *options,
    int *family) {
    int kind = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    *family = AF_INET6;
    int fd = socket(AF_INET6, kind, 0);
    if (fd < 0 && errno == EAFNOSUPPORT) {
        *family = AF_INET;
        fd = socket(AF_INET, kind, 0);
    }
    if (fd < 0) return -errno;
    int status = configure(fd, *family, bind_to, options);
    if (status == -EADDRNOTAVAIL && *family == AF_INET6) {
        /* IPv6 is compiled in but disabled. */
        close(fd);
        *family = AF_INET;
        fd = socket(AF_INET, kind, 0);
        if (fd < 0) return -errno;
        status = configure(fd, AF_INET, bind_to, options);
    }
    if (status < 0) {
        close(fd);
        return status;
    }
    return fd;
}

int clinux_udp_connect(int fd, int family, const struct clinux_address *to) {
    struct sockaddr_storage name;
    socklen_t length = to_kernel(to, family, &name);
    return connect(fd, (struct sockaddr *)&name, length) < 0 ? -errno : 0;
}

int clinux_udp_port(int fd) {
    struct sockaddr_storage storage;
    struct clinux_address address;
    socklen_t length = sizeof storage;
    if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0) return -errno;
    from_kernel(&storage, &address);
    return address.port;
}

void clinux_udp_set_fragmentation(int fd, int family, int allowed) {
    int v4 = allowed ? IP_PMTUDISC_DONT : IP_PMTUDISC_PROBE;
    int v6 = allowed ? IPV6_PMTUDISC_DONT : IPV6_PMTUDISC_PROBE;
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &v4, sizeof v4);
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &v6, sizeof v6);
}

int clinux_route_mtu(const struct clinux_address *to, uint32_t firewall_mark) {
    int is_v4 = memcmp(to->ip, mapped_prefix, sizeof mapped_prefix) == 0;
    int family = is_v4 ? AF_INET : AF_INET6;
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (firewall_mark != 0) {
        setsockopt(fd, SOL_SOCKET, SO_MARK, &firewall_mark, sizeof firewall_mark);
    }
    struct sockaddr_storage storage;
    socklen_t length = to_kernel(to, family, &storage);
    int mtu = -1;
    socklen_t size = sizeof mtu;
    if (connect(fd, (struct sockaddr *)&storage, length) < 0 ||
        getsockopt(
            fd, is_v4 ? IPPROTO_IP : IPPROTO_IPV6, is_v4 ? IP_MTU : IPV6_MTU, &mtu, &size) < 0) {
        mtu = -errno;
    }
    close(fd);
    return mtu;
}

int clinux_udp_share_port(int fd) {
    int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0 ? -errno : 0;
}

union segment_control {
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr header;
};

int clinux_udp_send(int fd, int family, const struct clinux_outgoing *messages, int count) {
    struct mmsghdr headers[CLINUX_SEND_LIMIT];
    struct iovec vectors[CLINUX_SEND_LIMIT];
    struct sockaddr_storage names[CLINUX_SEND_LIMIT];
    union segment_control controls[CLINUX_SEND_LIMIT];
    if (count > CLINUX_SEND_LIMIT) count = CLINUX_SEND_LIMIT;
    memset(headers, 0, sizeof(struct mmsghdr) * (size_t)count);
    for (int i = 0; i < count; i++) {
        struct msghdr *header = &headers[i].msg_hdr;
        vectors[i].iov_base = (void *)messages[i].bytes;
        vectors[i].iov_len = messages[i].count;
        header->msg_iov = &vectors[i];
        header->msg_iovlen = 1;
        if (messages[i].to.port != 0) {
            header->msg_name = &names[i];
            header->msg_namelen = to_kernel(&messages[i].to, family, &names[i]);
        }
        if (messages[i].segment != 0 && messages[i].segment < messages[i].count) {
            memset(&controls[i], 0, sizeof controls[i]);
            header->msg_control = &controls[i];
            header->msg_controllen = sizeof controls[i].bytes;
            struct cmsghdr *control = CMSG_FIRSTHDR(header);
            control->cmsg_level = IPPROTO_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            uint16_t segment = (uint16_t)messages[i].segment;
            memcpy(CMSG_DATA(control), &segment, sizeof segment);
        }
    }
    int sent = sendmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

int clinux_udp_send_short(int fd, int family, const struct clinux_outgoing *message, int hops) {
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } space;
    struct sockaddr_storage name;
    struct iovec vector = {(void *)message->bytes, message->count};
    struct msghdr header = {0};
    memset(&space, 0, sizeof space);
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_name = &name;
    header.msg_namelen = to_kernel(&message->to, family, &name);
    header.msg_control = &space;
    header.msg_controllen = sizeof space.bytes;
    struct cmsghdr *control = CMSG_FIRSTHDR(&header);
    /* An IPv4 address in an IPv6 socket is sent by IPv4, which reads its own options. */
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    int is_ipv4 = memcmp(message->to.ip, mapped, sizeof mapped) == 0;
    control->cmsg_level = is_ipv4 ? IPPROTO_IP : IPPROTO_IPV6;
    control->cmsg_type = is_ipv4 ? IP_TTL : IPV6_HOPLIMIT;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(control), &hops, sizeof hops);
    return sendmsg(fd, &header, MSG_DONTWAIT) < 0 ? -errno : 1;
}

union receive_control {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr header;
};

int clinux_udp_receive(int fd, struct clinux_incoming *messages, int count) {
    struct mmsghdr headers[CLINUX_RECEIVE_LIMIT];
    struct iovec vectors[CLINUX_RECEIVE_LIMIT];
    struct sockaddr_storage names[CLINUX_RECEIVE_LIMIT];
    union receive_control controls[CLINUX_RECEIVE_LIMIT];
    if (count > CLINUX_RECEIVE_LIMIT) count = CLINUX_RECEIVE_LIMIT;
    memset(headers, 0, sizeof(struct mmsghdr) * (size_t)count);
    for (int i = 0; i < count; i++) {
        struct msghdr *header = &headers[i].msg_hdr;
        vectors[i].iov_base = messages[i].bytes;
        vectors[i].iov_len = messages[i].capacity;
        header->msg_iov = &vectors[i];
        header->msg_iovlen = 1;
        header->msg_name = &names[i];
        header->msg_namelen = sizeof names[i];
        header->msg_control = &controls[i];
        header->msg_controllen = sizeof controls[i].bytes;
    }
    int received = recvmmsg(fd, headers, (unsigned)count, MSG_DONTWAIT, NULL);
    if (received < 0) return -errno;
    for (int i = 0; i < received; i++) {
        struct msghdr *header = &headers[i].msg_hdr;
        messages[i].count = headers[i].msg_len;
        messages[i].segment = headers[i].msg_len;
        messages[i].is_truncated = (header->msg_flags & MSG_TRUNC) != 0;
        from_kernel(&names[i], &messages[i].from);
        for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL;
             control = CMSG_NXTHDR(header, control)) {
            if (control->cmsg_level == IPPROTO_UDP && control->cmsg_type == UDP_GRO) {
                int segment;
                memcpy(&segment, CMSG_DATA(control), sizeof segment);
                if (segment > 0) messages[i].segment = (uint32_t)segment;
            }
        }
    }
    return received;
}

void clinux_thread_configure(const char *name, int processor) {
    char short_name[16] = {0};
    strncpy(short_name, name, sizeof short_name - 1);
    pthread_setname_np(pthread_self(), short_name);
    if (processor >= 0 && processor < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(processor, &set);
        pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
}

int clinux_processor_count(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) < 0) return 1;
    int count = CPU_COUNT(&set);
    return count > 0 ? count : 1;
}

int clinux_random(void *bytes, size_t count) {
    ssize_t got = getrandom(bytes, count, 0);
    return got < 0 ? -errno : (int)got;
}

int clinux_pipe(int ends[2]) {
    return pipe2(ends, O_CLOEXEC) == 0 ? 0 : -errno;
}

int clinux_bind_mount(const char *source, const char *target) {
    return mount(source, target, NULL, MS_BIND, NULL) == 0 ? 0 : -errno;
}

int clinux_unmount(const char *target) {
    return umount2(target, MNT_DETACH) == 0 ? 0 : -errno;
}

void clinux_forbid_core(void) {
    static const int deaths[] = {SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGBUS, SIGSEGV};
    prctl(PR_SET_DUMPABLE, 0);
    for (size_t place = 0; place < sizeof deaths / sizeof *deaths; place++) {
        signal(deaths[place], SIG_DFL);
    }
}
