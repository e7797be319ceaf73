/* Subresources and kinds with a life of their own: scale, binding, eviction, token, and the reviews that are never stored. */
#include "controlplane/apiserver/http/http_internal.h"

#include "controlplane/apiserver/patch/patch.h"

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static void not_allowed(struct api_request *ar)
{
    status_method_not_allowed(&ar->status, ar->info.group, kp_arena_printf(ar->arena, "%s/%s", ar->info.resource, ar->info.subresource), ar->info.verb);
    respond_status(ar);
}

/* ---- scale ------------------------------------------------------------------------------------------------------------- */
static int make_scale_put(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    (void)current;
    (void)rq;
    *ret_new = arg;
    return 0;
}

struct scale_patch {
    struct patch_request request;
    struct kp_string_list problems;
};

static int make_scale_patch(void *arg, struct registry_request *rq, const void *current, void **ret_new)
{
    struct scale_patch *p = arg;
    return patch_apply(&k8s_scale_type, &p->request, current, rq->arena, &p->problems, ret_new, rq->status);
}

static void handle_scale(struct api_request *ar)
{
    struct registry *registry = ar->server->config.registry;
    struct k8s_scale *scale = NULL;
    int code;
    if (is(ar->info.verb, "get")) {
        code = registry_scale_get(registry, &ar->rq, &scale);
    } else if (is(ar->info.verb, "update")) {
        void *body = NULL;
        code = decode_body(ar, &k8s_scale_type, &body);
        if (code == 0)
            code = registry_scale_update(registry, &ar->rq, make_scale_put, body, &scale);
    } else if (is(ar->info.verb, "patch")) {
        struct scale_patch patch = {0};
        code = patch_begin(ar, &patch.request);
        if (code == 0)
            code = registry_scale_update(registry, &ar->rq, make_scale_patch, &patch, &scale);
    } else {
        not_allowed(ar);
        return;
    }
    if (code < 0)
        respond_status(ar);
    else
        respond_typed(ar, 200, &k8s_scale_type, scale);
}

/* ---- admission of what is not stored itself ---------------------------------------------------------------------------------- */
static struct admission_attributes attributes_of(struct api_request *ar, const struct kp_type *type, void *obj)
{
    return (struct admission_attributes){.operation = ADMISSION_CREATE,
                                         .resource = ar->resource,
                                         .subresource = ar->info.subresource,
                                         .type = type,
                                         .ns = ar->info.ns,
                                         .name = ar->rq.name,
                                         .user = &ar->user,
                                         .object = obj,
                                         .dry_run = ar->rq.dry_run,
                                         .field_manager = ar->rq.field_manager,
                                         .audit = ar->audit,
                                         .arena = ar->arena,
                                         .warnings = &ar->rq.warnings};
}

static int admit(struct api_request *ar, const struct kp_type *type, void **obj)
{
    struct admission *admission = ar->server->config.admission;
    struct admission_attributes attributes = attributes_of(ar, type, *obj);
    if (!admission)
        return 0;
    if (admission_mutate(admission, &attributes, &ar->status) < 0)
        return ar->status.code;
    *obj = attributes.object;
    return admission_validate(admission, &attributes, &ar->status);
}

/* Of a body that ends up in another object: our own steps see that one. */
static int ask_extensions(struct api_request *ar, const struct kp_type *type, void **obj)
{
    struct admission *admission = ar->server->config.admission;
    struct admission_attributes attributes = attributes_of(ar, type, *obj);
    if (admission && admission_ask_extensions(admission, &attributes, &ar->status) < 0)
        return ar->status.code;
    *obj = attributes.object;
    return 0;
}

/* ---- binding, eviction, token --------------------------------------------------------------------------------------------- */
static void respond_created_status(struct api_request *ar)
{
    static const char body[] = "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Success\",\"code\":201}";
    KP_AUTO_BUF struct kp_buf out = {0};
    void *obj = NULL;
    api_audit_status(ar, body, sizeof(body) - 1);
    if (ar->out.form == OUT_PROTO && kp_json_decode(&k8s_status_type, body, sizeof(body) - 1, ar->arena, NULL, &obj, NULL) == 0) {
        kp_proto_encode_object(&k8s_status_type, obj, &out);
        respond_bytes(ar, 201, form_content_type(OUT_PROTO), out.data, out.len);
        return;
    }
    respond_bytes(ar, 201, "application/json", body, sizeof(body) - 1);
}

static void handle_binding(struct api_request *ar)
{
    void *binding = NULL;
    if (decode_body(ar, &k8s_binding_type, &binding) < 0) {
        respond_status(ar);
        return;
    }
    if (!*ar->rq.name) /* POST to bindings names the pod in the body */
        ar->rq.name = ((struct k8s_binding *)binding)->metadata->name ? ((struct k8s_binding *)binding)->metadata->name : "";
    ar->rq.subresource = "binding";
    if (ask_extensions(ar, &k8s_binding_type, &binding) < 0 || registry_bind(ar->server->config.registry, &ar->rq, binding) < 0)
        respond_status(ar);
    else
        respond_created_status(ar);
}

static void handle_eviction(struct api_request *ar)
{
    void *eviction = NULL;
    if (decode_body(ar, &k8s_eviction_type, &eviction) < 0 || ask_extensions(ar, &k8s_eviction_type, &eviction) < 0 ||
        registry_evict(ar->server->config.registry, &ar->rq, eviction) < 0)
        respond_status(ar);
    else
        respond_created_status(ar);
}

static void handle_token(struct api_request *ar)
{
    KP_AUTO(wcache_object_unref) struct wcache_object *account = NULL;
    void *request = NULL;
    if (decode_body(ar, &k8s_token_request_type, &request) < 0 || registry_get(ar->server->config.registry, &ar->rq, NULL, &account) < 0) {
        respond_status(ar);
        return;
    }
    kp_object_default(&k8s_token_request_type, request, ar->arena);
    if (admit(ar, &k8s_token_request_type, &request) < 0 ||
        auth_token_request(ar->server->config.auth, ar->info.ns, ar->info.name, account->uid, request, ar->arena, &ar->status) < 0) {
        respond_status(ar);
        return;
    }
    struct k8s_object_meta *meta = kp_object_meta(&k8s_token_request_type, request);
    meta->name = ar->info.name;
    meta->namespace = ar->info.ns;
    meta->creation_timestamp = KP_TIME_OF(ar->rq.now_s);
    respond_typed(ar, 201, &k8s_token_request_type, request);
}

bool handle_special(struct api_request *ar)
{
    const char *sub = ar->info.subresource;
    if (is(sub, "scale")) {
        handle_scale(ar);
    } else if (is(sub, "binding")) {
        handle_binding(ar);
    } else if (is(sub, "eviction")) {
        handle_eviction(ar);
    } else if (is(sub, "token")) {
        handle_token(ar);
    } else if (is(sub, "proxy")) {
        handle_proxy(ar);
    } else if (is(sub, "log") || is(sub, "exec") || is(sub, "attach") || is(sub, "portforward")) {
        handle_kubelet(ar);
    } else {
        return false;
    }
    return true;
}

/* ---- what is never stored --------------------------------------------------------------------------------------------------- */
static void handle_review(struct api_request *ar)
{
    void *obj = NULL;
    if (!is(ar->info.verb, "create")) {
        status_method_not_allowed(&ar->status, ar->info.group, ar->info.resource, ar->info.verb);
        respond_status(ar);
        return;
    }
    if (decode_body(ar, ar->resource->type, &obj) < 0 ||
        auth_review(ar->server->config.auth, ar->resource, ar->info.ns, &ar->user, obj, ar->arena, &ar->status) < 0) {
        respond_status(ar);
        return;
    }
    respond_typed(ar, 201, ar->resource->type, obj);
}

static void handle_component_statuses(struct api_request *ar)
{
    struct k8s_component_status_list *list = KP_OBJECT_NEW(ar->arena, k8s_component_status_list);
    respond_typed(ar, 200, &k8s_component_status_list_type, list);
}

bool handle_virtual(struct api_request *ar)
{
    if (builtin_metrics_has(ar->resource)) {
        builtin_metrics_handle(ar);
    } else if (is(ar->info.group, "") && is(ar->info.resource, "bindings")) {
        ar->resource = &k8s_pods_resource;
        ar->rq.resource = ar->resource;
        ar->rq.kind = registry_kind_of(ar->resource);
        handle_binding(ar);
    } else if (is(ar->info.resource, "componentstatuses")) {
        handle_component_statuses(ar);
    } else if (is(ar->info.group, "authentication.k8s.io") || is(ar->info.group, "authorization.k8s.io")) {
        handle_review(ar);
    } else {
        return false;
    }
    return true;
}
