/* Starts tests/support/hetzner.py, a Hetzner Cloud API in memory, and talks to it past the driver. */
#ifndef TEST_HETZNER_FAKE_H
#define TEST_HETZNER_FAKE_H

#include <sys/types.h>

#include "cloud/rest/json.h"
#include "cloud/rest/rest.h"

#define HETZNER_FAKE_TOKEN "secret-of-a-test"
#define HETZNER_FAKE_READONLY "readonly-of-a-test"

struct hetzner_fake {
    pid_t pid;
    int in; /* its standard input: it ends when this is closed */
    char url[64];
    struct rest *rest;
    struct kp_arena *arena;
};
/* False when this machine has no python3. Two node images are there, "node-one" and "node-two". */
bool hetzner_fake_start(struct hetzner_fake *fake);
/* An empty project, and the environment of one who may use it: HCLOUD_TOKEN, HCLOUD_ENDPOINT. */
void hetzner_fake_reset(struct hetzner_fake *fake);
void hetzner_fake_stop(struct hetzner_fake *fake);
/* path "/v1/servers" or "/_fake/set"; body JSON text or NULL; token NULL: the right one. Gives the status; *ret (may be NULL) is the caller's. */
int hetzner_fake_call(struct hetzner_fake *fake, const char *method, const char *path, const char *token, const char *body, json_t **ret);
/* How many requests so far were, in whole, "METHOD path" with numbers as N, whatever their query. */
size_t hetzner_fake_count(struct hetzner_fake *fake, const char *line);

#endif
