/* UDP sockets and the text form of addresses. */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "lib/loop/loop_internal.h"

struct loop_udp {
    struct loop_handle base;
    uv_udp_t uv;
    loop_udp_fn fn;
    void *arg;
};

static void udp_closed(uv_handle_t *handle)
{
    free(KP_CONTAINER_OF(handle, struct loop_udp, uv));
}

static void udp_close(struct loop_handle *base)
{
    loop_udp_free(KP_CONTAINER_OF(base, struct loop_udp, base));
}

static void on_datagram(uv_udp_t *uv, ssize_t count, const uv_buf_t *buf, const struct sockaddr *from, unsigned flags)
{
    struct loop_udp *udp = KP_CONTAINER_OF(uv, struct loop_udp, uv);
    if (count < 0 || !from || flags & UV_UDP_PARTIAL) /* nothing came, an ICMP error of an earlier send, or cut short */
        return;
    udp->fn(udp, (const uint8_t *)buf->base, (size_t)count, from, udp->arg);
}

int loop_udp_open(struct loop *loop, const char *host, uint16_t port, loop_udp_fn fn, void *arg, struct loop_udp **ret_udp,
                  struct kp_error *error)
{
    struct sockaddr_storage address;
    if (loop_sockaddr_parse(kp_empty(host) ? "::" : host, port, (struct sockaddr *)&address) < 0)
        return kp_fail(error, KP_EINVALID, "UDP address \"%s\" is not an IP address", host);
    struct loop_udp *udp = kp_calloc(1, sizeof(*udp));
    udp->base.close = udp_close;
    udp->fn = fn;
    udp->arg = arg;
    uv_udp_init(&loop->uv, &udp->uv);
    udp->uv.data = &udp->base;
    int status = uv_udp_bind(&udp->uv, (struct sockaddr *)&address, 0);
    if (status < 0 && kp_empty(host)) {
        KP_ASSERT(loop_sockaddr_parse("0.0.0.0", port, (struct sockaddr *)&address) == 0);
        status = uv_udp_bind(&udp->uv, (struct sockaddr *)&address, 0);
    }
    if (status == 0)
        status = uv_udp_recv_start(&udp->uv, loop_alloc_chunk, on_datagram);
    if (status < 0) {
        loop_udp_free(udp);
        return loop_fail_uv(error, status, "bind UDP %s:%u", kp_empty(host) ? "*" : host, port);
    }
    *ret_udp = udp;
    return 0;
}

uint16_t loop_udp_port(const struct loop_udp *udp)
{
    struct sockaddr_storage address;
    int len = sizeof(address);
    if (uv_udp_getsockname(&udp->uv, (struct sockaddr *)&address, &len) < 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

int loop_udp_send(struct loop_udp *udp, const void *data, size_t len, const struct sockaddr *to)
{
    uv_buf_t buf = uv_buf_init((char *)data, (unsigned)len);
    int count = uv_udp_try_send(&udp->uv, &buf, 1, to);
    if (count >= 0)
        return 0;
    return count == UV_EAGAIN ? KP_EAGAIN : KP_EIO;
}

void loop_udp_free(struct loop_udp *udp)
{
    if (udp && !uv_is_closing((uv_handle_t *)&udp->uv))
        uv_close((uv_handle_t *)&udp->uv, udp_closed);
}

int loop_sockaddr_parse(const char *host, uint16_t port, struct sockaddr *ret_storage)
{
    memset(ret_storage, 0, sizeof(struct sockaddr_storage));
    if (uv_ip4_addr(host, port, (struct sockaddr_in *)ret_storage) == 0)
        return 0;
    if (uv_ip6_addr(host, port, (struct sockaddr_in6 *)ret_storage) == 0)
        return 0;
    return KP_EBADREQUEST;
}

void loop_sockaddr_format(const struct sockaddr *address, char out[LOOP_ADDRESS_MAX])
{
    char host[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        snprintf(out, LOOP_ADDRESS_MAX, "%s:%u", host, ntohs(in->sin_port));
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) { /* a dual-stack listener's IPv4 peer */
            inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
            snprintf(out, LOOP_ADDRESS_MAX, "%s:%u", host, ntohs(in6->sin6_port));
        } else {
            inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
            snprintf(out, LOOP_ADDRESS_MAX, "[%s]:%u", host, ntohs(in6->sin6_port));
        }
    } else {
        snprintf(out, LOOP_ADDRESS_MAX, "unix");
    }
}
