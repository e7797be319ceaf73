/* Transports over loopback, and what they told. */
#ifndef TEST_PEER_WORLD_H
#define TEST_PEER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

#include "controlplane/etcd/peer/peer_internal.h"

#define WAIT_MS_MAX 20000 /* only a broken test waits so long */
#define CLUSTER 0xabcdefULL

struct world {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct peer_transport *transport;
    uint64_t id;
    char dir[64];
    struct raft_message *messages;
    size_t messages_len;
    unsigned unreachable, sent_ok, sent_failed, begun, ended;
    struct kp_buf image; /* of the snapshot that came */
    uint64_t image_index;
    char begun_path[128];
    int question_code;
};

void world_start(struct world *world, uint64_t id, const struct peer_config *extra);
void world_stop(struct world *world);
void world_url(const struct world *world, char out[64]);
void world_know(struct world *world, const struct world *other); /* peer_set with its listen URL */
/* Waits until *value is at least `least`; fails the test otherwise. */
void world_wait(struct world *world, const void *value, size_t size, uint64_t least);
#define WORLD_WAIT(world, field, least) world_wait((world), &(world)->field, sizeof((world)->field), (least))
void world_wait_connected(struct world *world, uint64_t id);
struct raft_message message_of(uint64_t from, uint64_t to, uint64_t index, size_t data_len);
uint16_t free_port(void);

#endif
