/* Somebody who notes what the audit log is told of one request: its annotations. */
#ifndef AUDITED_TEST_H
#define AUDITED_TEST_H

#include "controlplane/apiserver/audit/audit_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct audited {
    struct auditor auditor;
    struct audit_record *record;
    struct kp_buf line; /* the last event */
};

static inline size_t audited_keep(void *self, struct audit_sink *sink, struct kp_blob *const *events, size_t count, struct kp_error *error)
{
    struct audited *audited = self;
    (void)sink;
    (void)error;
    audited->line.len = 0;
    kp_buf_append(&audited->line, events[count - 1]->data, events[count - 1]->len);
    return 0;
}

static inline void audited_forget(void *self) { (void)self; }

/* level: "Metadata", "Request"; the record is for admission_attributes.audit. */
static inline struct audit_record *audited_begin(struct audited *audited, const char *level)
{
    static const char *const labels[] = {"level", NULL};
    static const struct auth_user user = {.name = "joe", .uid = ""};
    const struct audit_request request = {.attributes = {.user = "joe", .groups = &user.groups, .verb = "create", .group = "", .resource = "", .subresource = "", .ns = "", .name = "", .path = "/"},
                                          .id = "id", .uri = "/", .user = &user, .received_ns = kp_now_ns() + 3600000000000}; /* it takes no time */
    const struct audit_sink_config config = {.mode = AUDIT_BLOCKING, .buffer_size = 10, .batch_max = 10};
    const struct audit_output output = {.name = "log", .write = audited_keep, .free = audited_forget, .self = audited, .quick = true};
    struct kp_error error = {0};
    KP_AUTO_FREE char *text = kp_asprintf("{\"apiVersion\":\"audit.k8s.io/v1\",\"kind\":\"Policy\",\"rules\":[{\"level\":\"%s\"}]}", level);
    *audited = (struct audited){0};
    audited->auditor.events = kp_counter("test_events", "", NULL);
    audited->auditor.levels = kp_counter("test_levels", "", labels);
    assert_int_equal(audit_policy_parse(text, strlen(text), "test", &audited->auditor.policy, &error), 0);
    audited->auditor.sinks[audited->auditor.n_sinks++] = audit_sink_new(&config, &output);
    audited->record = audit_record_new(&audited->auditor, &request);
    return audited->record;
}

/* The annotations, in arena. */
static inline const struct kp_value *audited_end(struct audited *audited, struct kp_arena *arena)
{
    struct kp_value *event = NULL;
    audit_complete(audited->record, 200, true);
    assert_int_equal(kp_value_parse(audited->line.data, audited->line.len, arena, NULL, &event, NULL), 0);
    audit_record_unref(audited->record);
    audit_sink_free(audited->auditor.sinks[0]);
    audit_policy_free(audited->auditor.policy);
    kp_buf_done(&audited->line);
    return kp_value_get(event, "annotations");
}

#endif
