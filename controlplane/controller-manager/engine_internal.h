/* What plan.c and engine.c share. */
#ifndef KCM_ENGINE_INTERNAL_H
#define KCM_ENGINE_INTERNAL_H

#include "controlplane/controller-manager/engine.h"

enum plan_op { PLAN_CREATE, PLAN_UPDATE, PLAN_PATCH, PLAN_DELETE, PLAN_EVENT, PLAN_EVENT_ON_FAILURE, PLAN_DELETE_COLLECTION };

struct plan_write {
    struct plan_write *next;
    enum plan_op op;
    const struct kp_resource *resource;
    const char *ns, *name, *uid, *subresource;
    const void *obj;
    enum client_patch patch_type;
    const char *text; /* patch body, propagation, or the event's message */
    int64_t grace_period_s;
    struct client_event_target target;
    const char *event_type, *reason;
    bool append_created;
    bool if_done; /* an event of what went well before */
    bool go_on;   /* its failure is told, and ends nothing */
    struct { /* of a status that tells of failures; fn NULL: of any other */
        plan_failed_fn fn;
        void *obj; /* obj again, to be changed */
        const void *was;
        bool differs; /* to be written without a failure too */
        int64_t now_s;
    } told;
};

struct plan {
    struct kp_arena *arena;
    struct plan_write *first, *last;
    size_t len;
    int64_t requeue_after_ms; /* -1: none */
    bool back_off;
};

#endif
