#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/route.h>
#include <netlink/route/rtnl.h>

// sched.h hides these without _GNU_SOURCE, which a Swift import cannot define (setns(2), unshare(2)).
int setns(int fd, int nstype);
int unshare(int flags);
enum { CLONE_NEWNET_FLAG = 0x40000000 };
