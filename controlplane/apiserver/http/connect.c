/* Admission of connections (exec, attach, port-forward, proxies): webhooks are shown the options that the query holds. */
#include "controlplane/apiserver/http/http_internal.h"

/* PodExecOptions, PodAttachOptions, PodPortForwardOptions, PodProxyOptions, NodeProxyOptions and ServiceProxyOptions in one: they travel as queries, and
   only here as objects. */
struct connect_options {
    bool stdin_on, has_stdin_on, stdout_on, has_stdout_on, stderr_on, has_stderr_on, tty, has_tty;
    const char *container, *path;
    struct kp_string_list command;
    struct kp_i32_list ports;
};
#define NAMED(name) .json_name = name, .json_name_len = sizeof(name) - 1
#define BOOL_FIELD(name, member)                                                                                       \
    {NAMED(name), .kind = KP_KIND_BOOL, .offset = offsetof(struct connect_options, member), .has_offset = (int32_t)offsetof(struct connect_options, has_##member), .doc = ""}
#define STRING_FIELD(name, member)                                                                                     \
    {NAMED(name), .kind = KP_KIND_STRING, .offset = offsetof(struct connect_options, member), .has_offset = -1, .doc = ""}
static const struct kp_field fields[] = {
    BOOL_FIELD("stdin", stdin_on),
    BOOL_FIELD("stdout", stdout_on),
    BOOL_FIELD("stderr", stderr_on),
    BOOL_FIELD("tty", tty),
    STRING_FIELD("container", container),
    {NAMED("command"), .kind = KP_KIND_STRING, .cardinality = KP_LIST, .offset = offsetof(struct connect_options, command), .has_offset = -1, .doc = ""},
    {NAMED("ports"), .kind = KP_KIND_INT32, .cardinality = KP_LIST, .offset = offsetof(struct connect_options, ports), .has_offset = -1, .doc = ""},
    STRING_FIELD("path", path),
};

static void set_bool(struct api_request *ar, const char *name, bool *value, bool *has)
{
    *has = query_true(ar, name);
    *value = *has;
}

static struct connect_options *read_options(struct api_request *ar)
{
    struct connect_options *options = KP_NEW(ar->arena, struct connect_options);
    const char *const *values;
    if (strcmp(ar->info.subresource, "proxy") == 0) {
        options->path = *ar->info.rest ? ar->info.rest : NULL;
        return options;
    }
    if (strcmp(ar->info.subresource, "portforward") == 0) {
        size_t count = http_request_query_all(ar->http, "ports", &values);
        for (size_t i = 0; i < count; i++) {
            int64_t port;
            if (kp_parse_i64(values[i], &port) == 0 && port > 0 && port <= 65535)
                *KP_LIST_ADD(ar->arena, &options->ports) = (int32_t)port;
        }
        return options;
    }
    set_bool(ar, "stdin", &options->stdin_on, &options->has_stdin_on);
    set_bool(ar, "stdout", &options->stdout_on, &options->has_stdout_on);
    set_bool(ar, "stderr", &options->stderr_on, &options->has_stderr_on);
    set_bool(ar, "tty", &options->tty, &options->has_tty);
    options->container = query_of(ar, "container");
    size_t count = http_request_query_all(ar->http, "command", &values);
    for (size_t i = 0; i < count; i++)
        kp_string_list_add(ar->arena, &options->command, values[i]);
    return options;
}

int admit_connection(struct api_request *ar)
{
    struct admission *admission = ar->server->config.admission;
    struct kp_type *type = KP_NEW(ar->arena, struct kp_type);
    if (!admission || !ar->subresource)
        return 0;
    *type = (struct kp_type){.openapi_name = "", .name = ar->subresource->kind, .group = "", .version = "v1", .kind = ar->subresource->kind, .doc = "",
                             .size = sizeof(struct connect_options), .fields = fields, .n_fields = KP_ARRAY_LEN(fields), .metadata_offset = -1};
    struct admission_attributes attributes = {.operation = ADMISSION_CONNECT,
                                              .resource = ar->resource,
                                              .subresource = ar->info.subresource,
                                              .type = type,
                                              .ns = ar->info.ns,
                                              .name = ar->info.name,
                                              .user = &ar->user,
                                              .object = read_options(ar),
                                              .audit = ar->audit,
                                              .arena = ar->arena,
                                              .warnings = &ar->rq.warnings};
    return admission_ask_extensions(admission, &attributes, &ar->status);
}
