/* The paths of a resource and what can be done there. */
#include "controlplane/apiserver/openapi/openapi_internal.h"
#include "controlplane/apiserver/registry/registry.h"

#include <ctype.h>

/* ---- parameters -------------------------------------------------------------------------------------------------------- */
enum { FOR_LIST = 1, FOR_WRITE = 2, FOR_FORCE = 4, FOR_DELETE = 8, FOR_PROXY = 16, FOR_EXEC = 32, FOR_LOG = 64, FOR_ANY = 128, FOR_PORTS = 256,
       FOR_READ = FOR_ANY };
static const struct parameter {
    const char *name, *type, *doc;
    unsigned uses;
} parameters[] = {
    {"allowWatchBookmarks", "boolean", "A watch may send bookmarks.", FOR_LIST},
    {"command", "string", "The command and its arguments.", FOR_EXEC},
    {"container", "string", "The container; the pod's only one when left out.", FOR_EXEC | FOR_LOG},
    {"continue", "string", "Where the page before ended.", FOR_LIST},
    {"dryRun", "string", "All: nothing is stored.", FOR_WRITE | FOR_DELETE},
    {"fieldManager", "string", "Who makes the change, for managedFields.", FOR_WRITE},
    {"fieldSelector", "string", "Only objects whose fields match.", FOR_LIST},
    {"fieldValidation", "string", "Ignore, Warn or Strict: what unknown fields lead to.", FOR_WRITE},
    {"follow", "boolean", "Keep sending what is logged.", FOR_LOG},
    {"force", "boolean", "Take over fields of other managers.", FOR_FORCE},
    {"gracePeriodSeconds", "integer", "Seconds until the object goes.", FOR_DELETE},
    {"labelSelector", "string", "Only objects whose labels match.", FOR_LIST},
    {"limit", "integer", "The most objects of one page.", FOR_LIST},
    {"limitBytes", "integer", "The most bytes sent.", FOR_LOG},
    {"orphanDependents", "boolean", "Superseded by propagationPolicy.", FOR_DELETE},
    {"path", "string", "The path behind the proxy.", FOR_PROXY},
    {"ports", "integer", "The ports to forward.", FOR_PORTS},
    {"pretty", "string", "true: indented output.", FOR_ANY},
    {"previous", "boolean", "The log of the container's run before.", FOR_LOG},
    {"propagationPolicy", "string", "Orphan, Background or Foreground.", FOR_DELETE},
    {"resourceVersion", "string", "How new the answer must be.", FOR_LIST},
    {"resourceVersionMatch", "string", "Exact or NotOlderThan.", FOR_LIST},
    {"sendInitialEvents", "boolean", "A watch starts with the objects there are.", FOR_LIST},
    {"sinceSeconds", "integer", "Only lines younger than this.", FOR_LOG},
    {"stderr", "boolean", "Connect the error output.", FOR_EXEC},
    {"stdin", "boolean", "Connect the input.", FOR_EXEC},
    {"stdout", "boolean", "Connect the output.", FOR_EXEC},
    {"tailLines", "integer", "Only the last lines.", FOR_LOG},
    {"timeoutSeconds", "integer", "Seconds until the call ends.", FOR_LIST},
    {"timestamps", "boolean", "Each line starts with its time.", FOR_LOG},
    {"tty", "boolean", "The command gets a terminal.", FOR_EXEC},
    {"watch", "boolean", "Send changes as they happen.", FOR_LIST},
};

static void put_parameter(struct kp_buf *out, enum oa_version version, const char *name, const char *in, const char *type, const char *doc)
{
    oa_separate(out);
    kp_buf_putc(out, '{');
    oa_member(out, "name", name);
    oa_member(out, "in", in);
    oa_member(out, "description", doc);
    if (strcmp(in, "path") == 0)
        oa_raw_member(out, "required", "true");
    if (version == OA_V3) {
        oa_key(out, "schema");
        kp_buf_printf(out, "{\"type\":\"%s\",\"uniqueItems\":true}", type);
    } else {
        oa_member(out, "type", type);
        oa_raw_member(out, "uniqueItems", "true");
    }
    kp_buf_putc(out, '}');
}

void oa_put_parameters(struct kp_buf *out)
{
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < KP_ARRAY_LEN(parameters); i++) {
        oa_key(out, parameters[i].name);
        put_parameter(out, OA_V2, parameters[i].name, "query", parameters[i].type, parameters[i].doc);
    }
    kp_buf_putc(out, '}');
}

/* ---- operations -------------------------------------------------------------------------------------------------------- */
struct operation {
    const char *method, *action, *id_verb;
    unsigned verb, uses;
    const char *body, *answer; /* schema names; NULL: none, plain text */
};

struct path {
    enum oa_version version;
    const struct kp_resource *resource;
    const struct kp_subresource *sub;
    bool all_namespaces;
};

/* As upstream: what is done to the scale of a custom resource is done to the resource. */
static bool of_sub(const struct path *path) { return path->sub && !path->resource->custom; }
static const char *group_of(const struct path *path) { return of_sub(path) ? path->sub->group : path->resource->group; }
static const char *version_of(const struct path *path) { return of_sub(path) ? path->sub->version : path->resource->version; }
static const char *kind_of(const struct path *path) { return of_sub(path) ? path->sub->kind : path->resource->kind; }

/* "rbac.authorization" -> "RbacAuthorization" */
static void put_title(struct kp_buf *out, const char *word)
{
    for (bool start = true; *word; word++) {
        if (*word == '.' || *word == '-') {
            start = true;
            continue;
        }
        kp_buf_putc(out, start ? (char)toupper((unsigned char)*word) : *word);
        start = false;
    }
}

/* "readCoreV1NamespacedPodStatus" */
static void put_operation_id(struct kp_buf *out, const struct path *path, const struct operation *op)
{
    KP_AUTO_BUF struct kp_buf id = {0};
    const char *group = path->resource->group;
    size_t len = kp_ends_with(group, ".k8s.io") ? strlen(group) - strlen(".k8s.io") : strlen(group);
    char *short_group = kp_strndup(*group ? group : "core", *group ? len : 4);
    kp_buf_puts(&id, op->id_verb);
    put_title(&id, short_group);
    put_title(&id, path->resource->version);
    if (strcmp(op->action, "deletecollection") == 0)
        kp_buf_puts(&id, "Collection");
    if (path->resource->namespaced && !path->all_namespaces)
        kp_buf_puts(&id, "Namespaced");
    kp_buf_puts(&id, path->resource->kind);
    if (path->sub)
        put_title(&id, path->sub->name);
    if (path->all_namespaces)
        kp_buf_puts(&id, "ForAllNamespaces");
    oa_member(out, "operationId", id.data);
    oa_key(out, "tags");
    kp_buf_printf(out, "[\"%s_%s\"]", short_group, path->resource->version);
    free(short_group);
}

static void put_schema_ref(struct kp_buf *out, enum oa_version version, const char *name)
{
    oa_key(out, "schema");
    kp_buf_putc(out, '{');
    if (name)
        oa_ref(out, version, name);
    else
        oa_member(out, "type", "string");
    kp_buf_putc(out, '}');
}

/* A list of media types; the last ones are not for custom resources, which have neither merge keys nor a protobuf form. */
struct media {
    const char *const *types;
    size_t count;
};
static const char *const patch_types[] = {"application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
                                          "application/strategic-merge-patch+json"};
static const char *const answer_types[] = {"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"};
static const char *const any_types[] = {"*/*"};

static struct media media_of(const struct path *path, const char *const *types, size_t count)
{
    return (struct media){types, path->resource->custom ? count - 1 : count};
}

static struct media body_media(const struct path *path, const struct operation *op)
{
    if (strcmp(op->action, "patch") == 0)
        return media_of(path, patch_types, KP_ARRAY_LEN(patch_types));
    return path->resource->custom ? media_of(path, answer_types, KP_ARRAY_LEN(answer_types)) : (struct media){any_types, 1};
}

static struct media answer_media(const struct path *path, const struct operation *op)
{
    return op->answer ? media_of(path, answer_types, KP_ARRAY_LEN(answer_types)) : (struct media){any_types, 1};
}

static void put_content(struct kp_buf *out, struct media media, const char *schema)
{
    oa_key(out, "content");
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < media.count; i++) {
        oa_key(out, media.types[i]);
        kp_buf_putc(out, '{');
        put_schema_ref(out, OA_V3, schema);
        kp_buf_putc(out, '}');
    }
    kp_buf_putc(out, '}');
}

static void put_types(struct kp_buf *out, const char *key, struct media media)
{
    oa_key(out, key);
    kp_buf_putc(out, '[');
    for (size_t i = 0; i < media.count; i++) {
        oa_separate(out);
        kp_json_string(out, media.types[i]);
    }
    kp_buf_putc(out, ']');
}

static void put_body(struct kp_buf *out, const struct path *path, const struct operation *op)
{
    oa_key(out, "requestBody");
    kp_buf_putc(out, '{');
    put_content(out, body_media(path, op), op->body);
    if (strcmp(op->body, OA_DELETE_OPTIONS) != 0)
        oa_raw_member(out, "required", "true");
    kp_buf_putc(out, '}');
}

static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || !at[len]))
            return true;
    return false;
}

static void put_responses(struct kp_buf *out, const struct path *path, const struct operation *op)
{
    static const struct {
        const char *code, *text, *actions;
    } codes[] = {
        {"200", "OK", "get list post put patch delete deletecollection connect"},
        {"201", "Created", "post put patch"},
        {"202", "Accepted", "post delete"},
    };
    oa_key(out, "responses");
    kp_buf_putc(out, '{');
    for (size_t i = 0; i < KP_ARRAY_LEN(codes); i++) {
        if (!has_word(codes[i].actions, op->action))
            continue;
        oa_key(out, codes[i].code);
        kp_buf_putc(out, '{');
        oa_member(out, "description", codes[i].text);
        if (path->version == OA_V2)
            put_schema_ref(out, OA_V2, op->answer);
        else
            put_content(out, answer_media(path, op), op->answer);
        kp_buf_putc(out, '}');
    }
    oa_raw_member(out, "401", "{\"description\":\"Unauthorized\"}");
    kp_buf_putc(out, '}');
}

static void put_query(struct kp_buf *out, enum oa_version version, const struct operation *op)
{
    oa_key(out, "parameters");
    kp_buf_putc(out, '[');
    if (version == OA_V2 && op->body) {
        bool required = strcmp(op->body, OA_DELETE_OPTIONS) != 0;
        kp_buf_puts(out, "{\"name\":\"body\",\"in\":\"body\"");
        if (required)
            oa_raw_member(out, "required", "true");
        put_schema_ref(out, version, op->body);
        kp_buf_putc(out, '}');
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(parameters); i++) {
        const struct parameter *p = &parameters[i];
        if (!(p->uses & op->uses) || (p->uses & FOR_ANY)) /* those stand at the path */
            continue;
        if (version == OA_V3) { /* in place: kubectl looks for dryRun among the operation's own parameters */
            put_parameter(out, version, p->name, "query", p->type, p->doc);
            continue;
        }
        oa_separate(out);
        kp_buf_printf(out, "{\"$ref\":\"#/parameters/%s\"}", p->name);
    }
    kp_buf_putc(out, ']');
}

static void put_operation(struct kp_buf *out, const struct path *path, const struct operation *op)
{
    oa_key(out, op->method);
    kp_buf_putc(out, '{');
    put_operation_id(out, path, op);
    put_query(out, path->version, op);
    if (path->version == OA_V3 && op->body)
        put_body(out, path, op);
    if (path->version == OA_V2) {
        put_types(out, "consumes", body_media(path, op));
        put_types(out, "produces", answer_media(path, op));
    }
    put_responses(out, path, op);
    oa_member(out, "x-kubernetes-action", op->action);
    oa_key(out, "x-kubernetes-group-version-kind"); /* one object here, where a schema has a list */
    oa_gvk(out, group_of(path), version_of(path), kind_of(path));
    kp_buf_putc(out, '}');
}

/* ---- path items -------------------------------------------------------------------------------------------------------- */
static void put_path_parameters(struct kp_buf *out, const struct path *path, const char *text)
{
    oa_key(out, "parameters");
    kp_buf_putc(out, '[');
    if (strstr(text, "{name}"))
        put_parameter(out, path->version, "name", "path", "string", "The object's name.");
    if (strstr(text, "{namespace}"))
        put_parameter(out, path->version, "namespace", "path", "string", "The object's namespace.");
    if (strstr(text, "{path}"))
        put_parameter(out, path->version, "path", "path", "string", "The path behind the proxy.");
    if (path->version == OA_V3)
        put_parameter(out, path->version, "pretty", "query", "string", "true: indented output.");
    else
        kp_buf_printf(out, "%s{\"$ref\":\"#/parameters/pretty\"}", out->data[out->len - 1] == '[' ? "" : ",");
    kp_buf_putc(out, ']');
}

static void emit(const struct path *path, const char *text, const struct operation *ops, size_t count, unsigned verbs, oa_path_fn visit, void *ctx)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    bool any = false;
    kp_buf_putc(&out, '{');
    for (size_t i = 0; i < count; i++)
        if (ops[i].verb & verbs) {
            put_operation(&out, path, &ops[i]);
            any = true;
        }
    put_path_parameters(&out, path, text);
    kp_buf_putc(&out, '}');
    if (any)
        visit(text, &out, ctx);
}

static void visit_collection(const struct path *path, const char *text, oa_path_fn visit, void *ctx)
{
    const struct kp_resource *r = path->resource;
    const char *list = r->list_type ? r->list_type->openapi_name : NULL;
    const struct operation ops[] = {
        {"get", "list", "list", KP_VERB_LIST, FOR_LIST, NULL, list},
        {"post", "post", "create", KP_VERB_CREATE, FOR_WRITE, r->type->openapi_name, r->type->openapi_name},
        {"delete", "deletecollection", "delete", KP_VERB_DELETECOLLECTION, FOR_LIST | FOR_DELETE, OA_DELETE_OPTIONS, OA_STATUS},
    };
    emit(path, text, ops, path->all_namespaces ? 1 : KP_ARRAY_LEN(ops), r->verbs, visit, ctx);
}

static void visit_object(const struct path *path, const char *text, const char *type, unsigned verbs, oa_path_fn visit, void *ctx)
{
    unsigned read = path->sub && strcmp(path->sub->name, "log") == 0 ? FOR_LOG : FOR_READ;
    const struct operation ops[] = {
        {"get", "get", "read", KP_VERB_GET, read, NULL, read == FOR_LOG ? NULL : type},
        {"put", "put", "replace", KP_VERB_UPDATE, FOR_WRITE, type, type},
        {"post", "post", "create", path->sub ? KP_VERB_CREATE : 0, FOR_WRITE, type, type},
        {"delete", "delete", "delete", KP_VERB_DELETE, FOR_DELETE, OA_DELETE_OPTIONS, OA_STATUS},
        {"patch", "patch", "patch", KP_VERB_PATCH, FOR_WRITE | FOR_FORCE, OA_PATCH, type},
    };
    emit(path, text, ops, KP_ARRAY_LEN(ops), verbs, visit, ctx);
}

static void visit_connect(const struct path *path, const char *text, oa_path_fn visit, void *ctx)
{
    const char *name = path->sub->name;
    unsigned uses = strcmp(name, "proxy") == 0 ? FOR_PROXY : strcmp(name, "portforward") == 0 ? FOR_PORTS : FOR_EXEC;
    if (strstr(text, "{path}"))
        uses = FOR_ANY; /* the path is in the path */
    const struct operation ops[] = {
        {"get", "connect", "connectGet", KP_VERB_GET, uses, NULL, NULL},
        {"post", "connect", "connectPost", KP_VERB_CREATE, uses, NULL, NULL},
        {"put", "connect", "connectPut", KP_VERB_UPDATE, uses, NULL, NULL},
        {"delete", "connect", "connectDelete", KP_VERB_DELETE, uses, NULL, NULL},
        {"patch", "connect", "connectPatch", KP_VERB_PATCH, uses, NULL, NULL},
    };
    emit(path, text, ops, KP_ARRAY_LEN(ops), path->sub->verbs, visit, ctx);
}

static void visit_subresource(const struct path *path, const char *object_path, oa_path_fn visit, void *ctx)
{
    char *text = kp_asprintf("%s/%s", object_path, path->sub->name);
    if (path->sub->type) {
        visit_object(path, text, path->sub->type->openapi_name, path->sub->verbs, visit, ctx);
    } else {
        visit_connect(path, text, visit, ctx);
        if (strcmp(path->sub->name, "proxy") == 0) {
            char *deep = kp_asprintf("%s/{path}", text);
            visit_connect(path, deep, visit, ctx);
            free(deep);
        }
    }
    free(text);
}

void oa_each_path(const struct kp_resource *r, enum oa_version version, oa_path_fn visit, void *ctx)
{
    char gv[OA_GV_MAX];
    struct path path = {.version = version, .resource = r};
    oa_group_version(r, gv);
    if (r->namespaced) {
        char *all = kp_asprintf("/%s/%s", gv, r->name);
        path.all_namespaces = true;
        visit_collection(&path, all, visit, ctx);
        path.all_namespaces = false;
        free(all);
    }
    char *collection = kp_asprintf(r->namespaced ? "/%s/namespaces/{namespace}/%s" : "/%s/%s", gv, r->name);
    char *object = kp_asprintf("%s/{name}", collection);
    visit_collection(&path, collection, visit, ctx);
    visit_object(&path, object, r->type->openapi_name, r->verbs & ~(unsigned)KP_VERB_CREATE, visit, ctx);
    for (size_t i = 0; i < r->n_subresources; i++) {
        path.sub = &r->subresources[i];
        visit_subresource(&path, object, visit, ctx);
    }
    free(object);
    free(collection);
}

void oa_resource_names(const struct kp_resource *r, struct oa_names *names)
{
    bool custom = r->custom != NULL;
    oa_names_add_type(names, r->type, custom);
    if (r->list_type)
        oa_names_add_type(names, r->list_type, custom);
    for (size_t i = 0; i < r->n_subresources; i++) /* that of a custom resource's status is there by now */
        if (r->subresources[i].type)
            oa_names_add_type(names, r->subresources[i].type, false);
    oa_names_add(names, OA_STATUS);
    oa_names_add(names, OA_DELETE_OPTIONS);
    oa_names_add(names, OA_PATCH);
}

bool oa_served(const struct kp_resource *r)
{
    return r->custom || registry_kind_of(r) || strcmp(r->group, "authentication.k8s.io") == 0 || strcmp(r->group, "authorization.k8s.io") == 0 ||
           strcmp(r->group, "metrics.k8s.io") == 0 ||
           (!*r->group && (strcmp(r->name, "bindings") == 0 || strcmp(r->name, "componentstatuses") == 0));
}
