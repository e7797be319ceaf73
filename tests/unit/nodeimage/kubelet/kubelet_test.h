/* What the kubelet's unit tests share: pods from YAML, and runtimes made of literals. */
#ifndef KUBELET_TEST_H
#define KUBELET_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "nodeimage/kubelet/pod_internal.h"

static inline __attribute__((unused)) struct k8s_pod *pod_of(struct kp_arena *arena, const char *yaml)
{
    struct kp_error error = {0};
    void *pod = NULL;
    if (kp_yaml_decode(&k8s_pod_type, yaml, strlen(yaml), arena, NULL, &pod, &error) < 0)
        fail_msg("%s", error.message);
    kp_object_default(&k8s_pod_type, pod, arena);
    return pod;
}

/* A running runtime with one ready sandbox and room for containers. */
struct test_runtime {
    struct cri_sandbox sandbox;
    struct cri_container containers[16];
    struct kubelet_runtime rt;
    const char *ips[1];
};

static inline __attribute__((unused)) void runtime_init(struct test_runtime *t)
{
    *t = (struct test_runtime){0};
    t->ips[0] = "10.0.0.5";
    t->sandbox = (struct cri_sandbox){.id = "s1", .ready = true, .ips = t->ips, .n_ips = 1};
    t->rt = (struct kubelet_runtime){.sandboxes = &t->sandbox, .n_sandboxes = 1, .containers = t->containers};
}

/* Adds in front: the newest comes first. */
static inline __attribute__((unused)) struct cri_container *runtime_add(struct test_runtime *t, const char *id, const char *name,
                                                                       enum cri_state state, int exit_code)
{
    memmove(t->containers + 1, t->containers, sizeof(t->containers[0]) * t->rt.n_containers);
    t->rt.n_containers++;
    t->containers[0] = (struct cri_container){.id = id, .name = name, .sandbox_id = "s1", .state = state, .exit_code = exit_code,
                                              .started_ns = 1000000000, .finished_ns = 2000000000, .image_ref = "sha256:i",
                                              .image = "docker.io/library/i:1"};
    return &t->containers[0];
}

#endif
