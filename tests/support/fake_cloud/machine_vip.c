/* The endpoint's address on a fake machine: a listener that whoever comes first has, passing on to its own API server. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/fake_cloud/machine.h"

#define RETRY_MS 20

static struct sockaddr_in make_address(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(API_PORT)};
    KP_ASSERT(inet_pton(AF_INET, text, &address.sin_addr) == 1);
    return address;
}

static int connect_own(const struct machine *machine)
{
    struct sockaddr_in own = make_address(machine->address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
        kp_close_fd(&fd);
    return fd;
}

struct passing {
    int fds[2];
};

static bool pass(int from, int to)
{
    char chunk[65536];
    ssize_t n = read(from, chunk, sizeof(chunk));
    for (ssize_t done = 0, wrote; n > 0 && done < n; done += wrote) {
        wrote = write(to, chunk + done, (size_t)(n - done));
        if (wrote <= 0)
            return false;
    }
    return n > 0;
}

static void *pass_on(void *arg)
{
    struct passing *passing = arg;
    bool open = true;
    while (open) {
        struct pollfd polls[2] = {{passing->fds[0], POLLIN, 0}, {passing->fds[1], POLLIN, 0}};
        open = poll(polls, 2, -1) > 0;
        for (int i = 0; open && i < 2; i++)
            if (polls[i].revents)
                open = pass(passing->fds[i], passing->fds[!i]);
    }
    close(passing->fds[0]);
    close(passing->fds[1]);
    free(passing);
    return NULL;
}

static void *hold(void *arg)
{
    const struct machine *machine = arg;
    struct sockaddr_in vip = make_address(machine->api_address);
    int yes = 1, own, listener;
    while ((own = connect_own(machine)) < 0) /* not before there is something to pass on to */
        kp_sleep_ms(RETRY_MS);
    close(own);
    for (;; kp_sleep_ms(RETRY_MS)) {
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        KP_ASSERT(listener >= 0 && setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0);
        if (bind(listener, (struct sockaddr *)&vip, sizeof(vip)) == 0 && listen(listener, 64) == 0)
            break;
        close(listener);
    }
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        own = client < 0 ? -1 : connect_own(machine);
        pthread_t thread;
        struct passing *passing = kp_calloc(1, sizeof(*passing));
        *passing = (struct passing){{client, own}};
        if (own >= 0 && pthread_create(&thread, NULL, pass_on, passing) == 0) {
            pthread_detach(thread);
            continue;
        }
        kp_close_fd(&client);
        kp_close_fd(&own);
        free(passing);
    }
    return NULL;
}

void machine_vip_start(const struct machine *machine)
{
    pthread_t thread;
    int failure = pthread_create(&thread, NULL, hold, (void *)machine);
    KP_ASSERT(failure == 0);
}
