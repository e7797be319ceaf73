/* Which certificate a port serves: a handshake, and no more. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "provisioner/cli/certs_internal.h"

#define IO_MS 3000

const struct certs_port *certs_ports(bool control_plane)
{
    static const struct certs_port ports[] = {
        {BOOTSTRAP_API_PORT, "/etc/kubernetes/pki/apiserver.crt"},
        {2379, "/etc/kubernetes/pki/etcd/server.crt"},
        {2380, "/etc/kubernetes/pki/etcd/peer.crt"},
        {10250, "/var/lib/kubelet/pki/kubelet.crt"},
        {0},
    };
    return control_plane ? ports : &ports[3];
}

void certs_all_trust(const struct pki *pki, struct kp_buf *out)
{
    for (enum pki_authority i = 0; i < PKI_SERVICE_ACCOUNTS; i++)
        pki_trust(pki_authority(pki, i), out);
}

static int dial(const char *address, int port, int *ret_fd, struct kp_error *error)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    const struct timeval timeout = {.tv_sec = IO_MS / 1000};
    if (inet_pton(AF_INET, address, &to.sin_addr) != 1)
        return kp_fail(error, KP_EINVALID, "%s is no IPv4 address", address);
    KP_AUTO_CLOSE int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0)
        return kp_fail_errno(error, "make a socket");
    if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0)
        return kp_fail_errno(error, "connect to %s:%d", address, port);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

static int send_output(struct tls_session *session, int fd, struct kp_error *error)
{
    for (;;) {
        const struct kp_bytes out = tls_session_output(session);
        if (out.len == 0)
            return 0;
        const ssize_t n = send(fd, out.data, out.len, MSG_NOSIGNAL);
        if (n < 0)
            return kp_fail_errno(error, "send");
        tls_session_output_consume(session, (size_t)n);
    }
}

static int shake_hands(struct tls_session *session, int fd, struct kp_error *error)
{
    char chunk[16384];
    while (!tls_session_handshake_done(session)) {
        int r = send_output(session, fd, error);
        if (r < 0)
            return r;
        const ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
        if (n <= 0)
            return n < 0 ? kp_fail_errno(error, "receive") : kp_fail(error, KP_EIO, "the connection was closed in the handshake");
        r = tls_session_feed(session, chunk, (size_t)n, error);
        if (r < 0)
            return r;
    }
    return 0;
}

int certs_served(const char *address, int port, const char *ca_pem, char ret_fingerprint[65], struct kp_error *error)
{
    KP_AUTO(tls_context_unref) struct tls_context *context = NULL;
    KP_AUTO(tls_session_free) struct tls_session *session = NULL;
    KP_AUTO_CLOSE int fd = -1;
    /* In TLS 1.3 the server's certificate comes before it has seen ours, so none is needed even where one is asked for. */
    const struct tls_context_config config = {.ca_pem = ca_pem, .tls13_only = true};
    int r = dial(address, port, &fd, error);
    if (r == 0)
        r = tls_context_new(&config, &context, error);
    if (r == 0)
        r = tls_session_new(context, NULL, &session, error);
    if (r == 0)
        r = shake_hands(session, fd, error);
    if (r < 0)
        return kp_wrap(error, "certificate of %s:%d", address, port);
    const struct tls_cert *cert = tls_session_peer_cert(session);
    if (!cert)
        return kp_fail(error, KP_EUNAUTHORIZED, "%s:%d served no certificate that could be verified", address, port);
    memcpy(ret_fingerprint, tls_cert_info(cert)->fingerprint_sha256, 65);
    return 0;
}
