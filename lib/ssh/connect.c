/* Connects: TCP with a deadline, the handshake, the host key, the login; and waits for the session ever after. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ssh/ssh_internal.h"

#define POLL_MS_MAX 1000

static pthread_once_t init_once = PTHREAD_ONCE_INIT;
static void init_library(void)
{
    int r = libssh2_init(0);
    KP_ASSERT(r == 0);
}

int64_t sshc_deadline(int64_t timeout_ms)
{
    return timeout_ms > 0 ? kp_mono_ms() + timeout_ms : 0;
}

int sshc_fail(struct sshc *ssh, int code, const char *doing, struct kp_error *error)
{
    char *text = NULL;
    int number = libssh2_session_last_error(ssh->session, &text, NULL, 0);
    if (number == LIBSSH2_ERROR_SOCKET_DISCONNECT || number == LIBSSH2_ERROR_SOCKET_RECV || number == LIBSSH2_ERROR_SOCKET_SEND)
        return kp_fail(error, KP_EUNAVAILABLE, "ssh %s: %s: the server closed the connection: see its log, and whether it still runs",
                       ssh->name, doing);
    return kp_fail(error, code, "ssh %s: %s: %s", ssh->name, doing, text && *text ? text : "no reason given");
}

/* libssh2 sends them but counts no answers: any byte from the server is one. Nothing is half sent when it is this quiet, so
   that the keepalive cannot come between two parts of a packet. */
static int keep_alive(struct sshc *ssh, const char *doing, struct kp_error *error)
{
    int64_t now = kp_mono_ms(), quiet = now - ssh->heard_ms;
    if (quiet > ssh->keepalive_ms * SSHC_DEAD_AFTER)
        return kp_fail(error, KP_ETIMEOUT, "ssh %s: %s: no sign of the server for %lld s: is the machine up, and the network?",
                       ssh->name, doing, (long long)(quiet / 1000));
    if (quiet < ssh->keepalive_ms || now - ssh->asked_ms < ssh->keepalive_ms ||
        (libssh2_session_block_directions(ssh->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND))
        return 0;
    int next = 0;
    ssh->asked_ms = now;
    if (libssh2_userauth_authenticated(ssh->session) && libssh2_keepalive_send(ssh->session, &next) < 0)
        return sshc_fail(ssh, KP_EUNAVAILABLE, doing, error);
    return 0;
}

int sshc_wait(struct sshc *ssh, int extra_fd, int64_t deadline_ms, const char *doing, struct kp_error *error)
{
    for (;;) {
        int directions = libssh2_session_block_directions(ssh->session);
        int64_t left = deadline_ms ? deadline_ms - kp_mono_ms() : POLL_MS_MAX;
        if (left <= 0)
            return kp_fail(error, KP_ETIMEOUT, "ssh %s: %s: it took too long", ssh->name, doing);
        struct pollfd polls[] = {
            {.fd = ssh->fd, .events = (short)(POLLIN | (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND ? POLLOUT : 0))},
            {.fd = extra_fd, .events = POLLIN},
        };
        int n = poll(polls, 2, (int)KP_MIN(left, KP_MIN(ssh->keepalive_ms, POLL_MS_MAX)));
        if (n < 0 && errno != EINTR)
            return kp_fail_errno(error, "ssh %s: %s: poll", ssh->name, doing);
        if (n > 0 && (polls[0].revents & ~POLLOUT))
            ssh->heard_ms = kp_mono_ms();
        if (n > 0)
            return polls[1].revents != 0;
        int r = keep_alive(ssh, doing, error);
        if (r < 0)
            return r;
    }
}

/* One address; the error is the last one's. */
static int dial(struct sshc *ssh, const struct addrinfo *address, int64_t deadline_ms, struct kp_error *error)
{
    int one = 1, number = 0;
    socklen_t len = sizeof(number);
    ssh->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (ssh->fd < 0)
        return kp_fail_errno(error, "ssh %s: socket", ssh->name);
    int r = connect(ssh->fd, address->ai_addr, address->ai_addrlen);
    if (r < 0 && errno == EINPROGRESS) {
        struct pollfd poll_fd = {.fd = ssh->fd, .events = POLLOUT};
        int64_t left = KP_MAX(deadline_ms - kp_mono_ms(), 0);
        do
            r = poll(&poll_fd, 1, (int)left);
        while (r < 0 && errno == EINTR);
        if (r == 0) {
            kp_close_fd(&ssh->fd);
            return kp_fail(error, KP_ETIMEOUT,
                           "ssh %s: nobody answers: is the machine up, and does a firewall let this port through?", ssh->name);
        }
        if (r > 0 && getsockopt(ssh->fd, SOL_SOCKET, SO_ERROR, &number, &len) == 0 && number == 0) {
            r = 0;
        } else {
            errno = number ? number : errno;
            r = -1;
        }
    }
    if (r < 0) {
        bool refused = errno == ECONNREFUSED;
        kp_fail_errno(error, "ssh %s: connect", ssh->name);
        kp_close_fd(&ssh->fd);
        return kp_fail(error, KP_EUNAVAILABLE, "%s: %s", error ? error->message : "",
                       refused ? "does sshd run there, and on this port?" : "is the address right, and is there a route?");
    }
    setsockopt(ssh->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return 0;
}

static int dial_any(struct sshc *ssh, const char *host, int port, int64_t deadline_ms, struct kp_error *error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    char service[16];
    snprintf(service, sizeof(service), "%d", port);
    int number = getaddrinfo(host, service, &hints, &list);
    if (number != 0)
        return kp_fail(error, number == EAI_NONAME ? KP_ENOTFOUND : KP_EUNAVAILABLE, "ssh %s: look up \"%s\": %s: give its address",
                       ssh->name, host, gai_strerror(number));
    int r = -1;
    for (const struct addrinfo *address = list; address; address = address->ai_next) {
        r = dial(ssh, address, deadline_ms, error);
        if (r == 0)
            break;
    }
    freeaddrinfo(list);
    return r;
}

/* What both sides must have in common; libssh2's own lists hold older ones too. */
static int choose_methods(struct sshc *ssh, const struct sshc_known *known, struct kp_error *error)
{
    const struct {
        int kind;
        const char *names;
    } methods[] = {
        {LIBSSH2_METHOD_HOSTKEY, known->methods},
        {LIBSSH2_METHOD_KEX, "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,"
                             "diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group14-sha256"},
        {LIBSSH2_METHOD_CRYPT_CS, "aes256-ctr,aes192-ctr,aes128-ctr"},
        {LIBSSH2_METHOD_CRYPT_SC, "aes256-ctr,aes192-ctr,aes128-ctr"},
        {LIBSSH2_METHOD_MAC_CS, "hmac-sha2-256,hmac-sha2-512"},
        {LIBSSH2_METHOD_MAC_SC, "hmac-sha2-256,hmac-sha2-512"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(methods); i++) {
        if (libssh2_session_method_pref(ssh->session, methods[i].kind, methods[i].names) < 0)
            return kp_fail(error, KP_ENOTSUPPORTED,
                           "ssh %s: libssh2 knows none of %s: pin an ssh-ed25519 or ecdsa-sha2-nistp256 host key", ssh->name,
                           methods[i].names);
    }
    return 0;
}

static int shake_hands(struct sshc *ssh, int64_t deadline_ms, struct kp_error *error)
{
    int r, failed;
    SSHC_REPEAT(ssh, r, failed, deadline_ms, "handshake", error, libssh2_session_handshake(ssh->session, ssh->fd));
    if (failed < 0)
        return failed;
    if (r == LIBSSH2_ERROR_KEX_FAILURE || r == LIBSSH2_ERROR_METHOD_NONE)
        return kp_fail(error, KP_ENOTSUPPORTED,
                       "ssh %s: no host key kind, key exchange, cipher or MAC in common: the server must offer aes256-ctr, "
                       "hmac-sha2-256 and a host key of the kind that is pinned", ssh->name);
    return r < 0 ? sshc_fail(ssh, KP_EUNAVAILABLE, "handshake", error) : 0;
}

static int open_session(struct sshc *ssh, const struct sshc_target *target, struct kp_error *error)
{
    int port = target->port ? target->port : SSHC_PORT;
    int64_t deadline_ms = sshc_deadline(target->connect_timeout_ms ? target->connect_timeout_ms : SSHC_CONNECT_MS);
    struct sshc_known known = {0};
    int r = target->first_use ? 0 : sshc_known_read(ssh, target->known_hosts, target->host, port, &known, error);
    if (target->first_use)
        snprintf(known.methods, sizeof(known.methods), "ssh-ed25519,ecdsa-sha2-nistp256");
    if (r == 0)
        r = dial_any(ssh, target->host, port, deadline_ms, error);
    if (r == 0)
        r = choose_methods(ssh, &known, error);
    ssh->heard_ms = kp_mono_ms();
    if (r == 0)
        r = shake_hands(ssh, deadline_ms, error);
    if (r == 0 && !target->first_use)
        r = sshc_known_check(ssh, &known, target->host, port, error);
    if (r == 0)
        r = sshc_log_in(ssh, target, deadline_ms, error);
    sshc_known_done(&known);
    return r;
}

int sshc_connect(const struct sshc_target *target, struct sshc **ret_ssh, struct kp_error *error)
{
    const char *user = kp_empty(target->user) ? "root" : target->user;
    if (kp_empty(target->host) || target->port < 0 || target->port > 65535)
        return kp_fail(error, KP_EINVALID, "ssh needs a host and a port from 1 to 65535");
    pthread_once(&init_once, init_library);
    KP_AUTO(sshc_close) struct sshc *ssh = kp_calloc(1, sizeof(*ssh));
    ssh->fd = -1;
    ssh->name = target->port && target->port != SSHC_PORT ? kp_asprintf("%s@%s:%d", user, target->host, target->port)
                                                          : kp_asprintf("%s@%s", user, target->host);
    ssh->keepalive_ms = target->keepalive_ms ? target->keepalive_ms : SSHC_KEEPALIVE_MS;
    ssh->session = libssh2_session_init();
    KP_ASSERT(ssh->session);
    libssh2_session_set_blocking(ssh->session, 0);
    libssh2_keepalive_config(ssh->session, 1, 2);
    int r = open_session(ssh, target, error);
    if (r == 0)
        *ret_ssh = KP_TAKE(ssh);
    return r;
}

void sshc_close(struct sshc *ssh)
{
    if (!ssh)
        return;
    if (ssh->fd >= 0) {
        (void)libssh2_session_disconnect(ssh->session, "done"); /* a courtesy: closing the socket says it as well */
        shutdown(ssh->fd, SHUT_RDWR); /* so that freeing, which takes leave of open channels, has nobody to wait for */
    }
    for (int tries = 0; libssh2_session_free(ssh->session) == LIBSSH2_ERROR_EAGAIN && tries < 100; tries++)
        ;
    kp_close_fd(&ssh->fd);
    free(ssh->name);
    free(ssh);
}
