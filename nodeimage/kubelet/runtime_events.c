/* containerd's events of its tasks, from the socket that speaks CRI: with them containers need not be looked at all the time. Upstream's
   evented PLEG has them by CRI's GetContainerEvents, which containerd answers from 1.7 on; these have been there since 1.0. */
#include "proto/containerd.pb-c.h"
#include "lib/grpc/grpc.h"
#include "nodeimage/kubelet/cri_internal.h"

#define SUBSCRIBE "/containerd.services.events.v1.Events/Subscribe"

struct cri_events {
    struct cri_events_callbacks callbacks;
    void *arg;
};

/* A process that was started in a container - a probe's - ends without changing the container. */
static bool is_of_process(const Containerd__Services__Events__V1__Envelope *envelope)
{
    if (!kp_streq(envelope->topic, "/tasks/exit") || !envelope->event)
        return false;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const Containerd__Services__Events__V1__TaskExit *ended =
        (const void *)grpc_unpack(&containerd__services__events__v1__task_exit__descriptor, arena, envelope->event->value.data, envelope->event->value.len);
    return ended && !kp_streq(ended->id, ended->container_id);
}

static void on_message(struct grpc_call *call, const void *message, void *arg)
{
    struct cri_events *events = arg;
    (void)call;
    if (!is_of_process(message))
        events->callbacks.on_event(events->arg);
}

static void on_end(struct grpc_call *call, enum grpc_status status, const char *message, void *arg)
{
    struct cri_events *events = arg;
    grpc_call_unref(call);
    bool refused = status == GRPC_UNIMPLEMENTED || status == GRPC_UNKNOWN || status == GRPC_INVALID_ARGUMENT;
    if (refused)
        kp_warn("the runtime tells of no events: it is polled", "status", grpc_status_name(status), "message", message, NULL);
    events->callbacks.on_end(!refused, events->arg);
    free(events);
}

void cri_events_open(struct cri *cri, const struct cri_events_callbacks *callbacks, void *arg)
{
    static char started[] = "namespace==k8s.io,topic==\"/tasks/start\"", ended[] = "namespace==k8s.io,topic==\"/tasks/exit\"";
    static char removed[] = "namespace==k8s.io,topic==\"/containers/delete\"";
    static char *filters[] = {started, ended, removed};
    static const struct grpc_call_callbacks call_callbacks = {.on_message = on_message, .on_end = on_end};
    Containerd__Services__Events__V1__SubscribeRequest request = CONTAINERD__SERVICES__EVENTS__V1__SUBSCRIBE_REQUEST__INIT;
    request.filters = filters;
    request.n_filters = KP_ARRAY_LEN(filters);
    struct cri_events *events = kp_calloc(1, sizeof(*events));
    events->callbacks = *callbacks;
    events->arg = arg;
    struct grpc_call_options options = {.timeout_ms = -1};
    struct grpc_call *call = grpc_call_ref(grpc_call_open(cri_channel(cri), SUBSCRIBE, &containerd__services__events__v1__envelope__descriptor, &options,
                                                          &call_callbacks, events));
    if (grpc_call_send(call, &request.base) == 0) /* a failure arrives at on_end */
        grpc_call_send_end(call);
    grpc_call_unref(call);
}
