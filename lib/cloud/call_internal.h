/* A call of a driver as a value: what goes in, what comes out. */
#ifndef KP_CLOUD_CALL_INTERNAL_H
#define KP_CLOUD_CALL_INTERNAL_H

#include <stdatomic.h>

#include "cloud/cloud.h"

struct cloud {
    const struct cloud_driver *driver;
    void *state;
    int64_t timeout_ms; /* of every call; 0: as long as its kind takes */
    atomic_int refs;    /* the one who opened it, and every call: one that was left behind uses the state still */
};

enum cloud_call_kind {
    CLOUD_CALL_NETWORK_ENSURE, CLOUD_CALL_NETWORK_GET, CLOUD_CALL_NETWORK_DELETE, CLOUD_CALL_ADDRESS_RESERVE,
    CLOUD_CALL_ADDRESS_RELEASE, CLOUD_CALL_MACHINE_CREATE, CLOUD_CALL_MACHINE_GET, CLOUD_CALL_MACHINE_LIST,
    CLOUD_CALL_MACHINE_POWER, CLOUD_CALL_MACHINE_DELETE, CLOUD_CALL_MACHINE_CONSOLE, CLOUD_CALL_OWNED, CLOUD_CALL_CLUSTERS,
    CLOUD_CALL_PURGE, CLOUD_CALL_MACHINE_REIMAGE, CLOUD_CALL_IMAGES_PRUNE, CLOUD_CALL_KINDS,
};
struct cloud_call_in { /* borrowed */
    const char *uid, *name;
    const char *const *images; /* NULL-terminated, or NULL */
    enum cloud_power_action action;
    struct cloud_network_spec network;
    struct cloud_machine_spec machine;
};
struct cloud_call_out {
    struct cloud_network network;
    struct cloud_machine machine;
    struct cloud_machine_list machines;
    const char *address;
    struct kp_strings strings; /* the caller's to free */
    struct kp_buf console;     /* the caller's to free */
};
struct cloud_call {
    struct cloud *cloud;
    enum cloud_call_kind kind;
    struct kp_arena *arena; /* of in and out */
    struct cloud_call_in in;
    struct cloud_call_out out;
    int result;
    struct kp_error error;
};
void cloud_unref(struct cloud *cloud); /* closes the driver with the last one */
/* Runs a call and waits for it, as long as it may take; results go into the arena, which may be NULL for calls without any. KP_ETIMEOUT when
   it has not come back: whether it does its work is then open. */
int cloud_call(struct cloud *cloud, enum cloud_call_kind kind, const struct cloud_call_in *in, struct kp_arena *arena,
               struct cloud_call_out *ret, struct kp_error *error) KP_NODISCARD;

#endif
