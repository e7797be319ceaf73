/* Clients of a fake machine's programs: opened anew when the machine's files have become others, as a program that is started again does it. */
#include <stdatomic.h>

#include "client/client.h"
#include "tests/support/fake_cloud/machine.h"

static atomic_int files; /* how often they have changed */

int machine_files(void)
{
    return atomic_load(&files);
}

void machine_files_changed(void)
{
    atomic_fetch_add(&files, 1);
}

void machine_client_close(struct machine_client *own)
{
    client_free(own->client);
    loop_free(own->loop);
    own->client = NULL;
    own->loop = NULL;
}

int machine_client_open(const struct machine *machine, struct machine_client *own, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct client_config config = {0};
    const int now = machine_files();
    if (own->client && own->files == now)
        return 0;
    machine_client_close(own);
    int r = client_config_from_kubeconfig(kp_arena_printf(arena, "%s/etc/kubernetes/%s", machine->root, own->kubeconfig), NULL, arena, &config, error);
    config.timeout_ms = own->timeout_ms;
    own->files = now;
    own->loop = loop_new();
    if (r == 0)
        r = loop_start(own->loop, "client", error);
    if (r == 0)
        r = client_new(own->loop, &config, &own->client, error);
    if (r < 0)
        machine_client_close(own);
    return r;
}
