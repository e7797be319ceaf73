/* One request to rtnetlink and its answer. */
#include "lib/netlink/netlink_internal.h"

#include <errno.h>

int netlink_talk(struct nlmsghdr *request, mnl_cb_t callback, void *arg, struct kp_error *error)
{
    char buffer[8192];
    struct mnl_socket *socket = mnl_socket_open(NETLINK_ROUTE);
    if (!socket)
        return kp_fail_errno(error, "netlink socket");
    unsigned seq = (unsigned)kp_now_ns();
    request->nlmsg_seq = seq;
    int rc = mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID);
    unsigned port = mnl_socket_get_portid(socket);
    ssize_t n = rc < 0 ? -1 : mnl_socket_sendto(socket, request, request->nlmsg_len);
    if (n >= 0)
        n = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
    while (n > 0) {
        rc = mnl_cb_run(buffer, (size_t)n, seq, port, callback, arg);
        if (rc <= MNL_CB_STOP)
            break;
        n = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
    }
    int saved = errno;
    mnl_socket_close(socket);
    errno = saved;
    if (n >= 0 && rc >= 0)
        return 0;
    kp_fail_errno(error, "rtnetlink request");
    errno = saved;
    return error->code;
}
