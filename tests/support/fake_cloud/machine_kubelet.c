/* The kubelet's port on a fake machine: it serves the kubelet's certificate, and nothing behind it. */
#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/fake_cloud/machine.h"
#include "tls/tls.h"

#define KUBELET_PORT 10250
#define IO_S 3

static int shake_hands(struct tls_context *context, int fd, struct kp_error *error)
{
    char chunk[16384];
    KP_AUTO(tls_session_free) struct tls_session *session = NULL;
    int r = tls_session_new(context, NULL, &session, error);
    while (r == 0) {
        const struct kp_bytes out = tls_session_output(session);
        if (out.len) {
            const ssize_t sent = send(fd, out.data, out.len, MSG_NOSIGNAL);
            if (sent < 0)
                return kp_fail_errno(error, "send");
            tls_session_output_consume(session, (size_t)sent);
            continue;
        }
        const ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
        if (n <= 0) /* it has seen what it came for */
            return 0;
        r = tls_session_feed(session, chunk, (size_t)n, error);
    }
    return r;
}

static void *serve(void *arg)
{
    const struct machine *machine = arg;
    struct kp_arena *arena = kp_arena_new(0);
    struct kp_error error = {0};
    struct tls_context *context = NULL;
    const struct tls_context_config config = {.server = true, .cert_file = kp_arena_printf(arena, "%s/var/lib/kubelet/pki/kubelet.crt", machine->root),
                                              .key_file = kp_arena_printf(arena, "%s/var/lib/kubelet/pki/kubelet.key", machine->root)};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(KUBELET_PORT)};
    const struct timeval timeout = {.tv_sec = IO_S};
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KP_ASSERT(listener >= 0 && inet_pton(AF_INET, machine->address, &address.sin_addr) == 1);
    if (tls_context_new(&config, &context, &error) < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 16) < 0) {
        fprintf(stderr, "fake-machine %s: the kubelet's port: %s\n", machine->name, error.code ? error.message : "not to be had");
        return NULL;
    }
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 || shake_hands(context, fd, &error) < 0)
            fprintf(stderr, "fake-machine %s: the kubelet's port: %s\n", machine->name, error.message);
        close(fd);
    }
}

void machine_kubelet_start(const struct machine *machine)
{
    pthread_t thread;
    KP_ASSERT(pthread_create(&thread, NULL, serve, (void *)machine) == 0);
    pthread_detach(thread);
}
