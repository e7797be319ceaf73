/* The endpoint's address on a fake machine: a listener that whoever comes first has, passing on to its own API server. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

#define RETRY_MS 20
#define HEALTH_MS 2000
#define HEALTH_EVERY_MS 50
#define MISSES_MAX 5

static atomic_bool healthy; /* this machine's API server */

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

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct passing {
    struct passing *next;
    int fds[2];
} *passings; /* under the mutex */

static void add_passing(struct passing *passing)
{
    pthread_mutex_lock(&mutex);
    passing->next = passings;
    passings = passing;
    pthread_mutex_unlock(&mutex);
}

static void remove_passing(const struct passing *passing)
{
    pthread_mutex_lock(&mutex);
    for (struct passing **at = &passings; *at; at = &(*at)->next) {
        if (*at == passing) {
            *at = passing->next;
            break;
        }
    }
    close(passing->fds[0]);
    close(passing->fds[1]);
    pthread_mutex_unlock(&mutex);
}

/* The address goes to another machine, and with it every packet of these connections: none of them lives on. */
static void end_passings(void)
{
    pthread_mutex_lock(&mutex);
    for (struct passing *passing = passings; passing; passing = passing->next)
        for (int i = 0; i < 2; i++)
            shutdown(passing->fds[i], SHUT_RDWR);
    pthread_mutex_unlock(&mutex);
}

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
    remove_passing(passing);
    free(passing);
    return NULL;
}

/* As kprov-vip: who cannot reach the store through its own API server has no business with the address. */
static void *watch_health(void *arg)
{
    const struct machine *machine = arg;
    struct machine_client own = {.kubeconfig = "vip.conf", .timeout_ms = HEALTH_MS};
    struct kp_error error = {0};
    for (int misses = 0;; kp_sleep_ms(HEALTH_EVERY_MS)) {
        int r = machine_client_open(machine, &own, &error);
        if (r == 0)
            r = client_raw(own.client, "GET", "/readyz", NULL, NULL, 0, NULL, NULL, &error);
        misses = r == 0 ? 0 : misses + 1;
        atomic_store(&healthy, misses < MISSES_MAX && (misses == 0 || atomic_load(&healthy)));
    }
    return NULL;
}

static int claim(const struct machine *machine)
{
    struct sockaddr_in vip = make_address(machine->api_address);
    int yes = 1;
    for (;; kp_sleep_ms(RETRY_MS)) {
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        KP_ASSERT(listener >= 0 && setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0);
        if (atomic_load(&healthy) && bind(listener, (struct sockaddr *)&vip, sizeof(vip)) == 0 && listen(listener, 64) == 0)
            return listener;
        close(listener);
    }
}

static void serve(const struct machine *machine, int client)
{
    pthread_t thread;
    int own = client < 0 ? -1 : connect_own(machine);
    struct passing *passing = kp_calloc(1, sizeof(*passing));
    *passing = (struct passing){.fds = {client, own}};
    if (own >= 0) {
        add_passing(passing);
        if (pthread_create(&thread, NULL, pass_on, passing) == 0) {
            pthread_detach(thread);
            return;
        }
        remove_passing(passing);
        client = -1;
    }
    kp_close_fd(&client);
    free(passing);
}

static void *hold(void *arg)
{
    const struct machine *machine = arg;
    for (;;) {
        int listener = claim(machine);
        while (atomic_load(&healthy)) {
            struct pollfd waiting = {listener, POLLIN, 0};
            if (poll(&waiting, 1, RETRY_MS) > 0)
                serve(machine, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        }
        close(listener);
        end_passings();
    }
    return NULL;
}

void machine_vip_start(const struct machine *machine)
{
    pthread_t threads[2];
    KP_ASSERT(pthread_create(&threads[0], NULL, watch_health, (void *)machine) == 0);
    KP_ASSERT(pthread_create(&threads[1], NULL, hold, (void *)machine) == 0);
}
