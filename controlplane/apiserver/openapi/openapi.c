/* Serves the documents: which one, in which form, and whether the client has it already. */
#include "controlplane/apiserver/openapi/openapi.h"
#include "controlplane/apiserver/aggregator/aggregator.h"
#include "controlplane/apiserver/openapi/openapi_internal.h"

#include <malloc.h>
#include <pthread.h>

#define DOCUMENT_BYTES_MAX ((size_t)256 << 20) /* a thousand custom resources with schemas of 250 KiB */
#define DOCUMENT_BYTES_LARGE ((size_t)1 << 20)
#define V3_PREFIX "/openapi/v3/"
#define V2_PROTO "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
#define V2_PROTO_OLD "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" /* what clients before 1.27 ask for */

/* A document at rest. It is kept packed, a tenth of its size, until the custom resources in it change. */
struct document {
    struct kp_blob *packed; /* gzip; NULL: larger than DOCUMENT_BYTES_MAX */
    char etag[24];          /* 16 hex digits */
    uint64_t generation;    /* of the resources, when it was known to be right */
    uint64_t custom;        /* which custom resources are in it: custom_in() */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kp_strmap *documents; /* by name: "v2.json", "v2.proto", "apis/apps/v1"; made on first use */

static void document_done(struct document *document) { kp_blob_unref(document->packed); }
#define AUTO_DOCUMENT __attribute__((cleanup(document_done)))

static void make(const char *name, struct kp_buf *out)
{
    if (strcmp(name, "v2.json") == 0)
        oa_document_v2(out);
    else if (strcmp(name, "v2.proto") == 0)
        oa_document_v2_proto(out);
    else
        oa_document_v3(name, out);
}

/* A number that stays the same while the same custom resources belong into a document; 0: none. They are told apart by where they lie,
   for none is ever freed or changed. Those of the schema are always the same. */
static uint64_t custom_in(const char *name)
{
    size_t n;
    char gv[OA_GV_MAX];
    uint64_t hash = 0;
    bool all = kp_starts_with(name, "v2.");
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        if (!resources[i]->custom || (!all && strcmp(oa_group_version(resources[i], gv), name) != 0))
            continue;
        const uintptr_t next[] = {(uintptr_t)hash, (uintptr_t)resources[i], (uintptr_t)resources[i]->type, (uintptr_t)resources[i]->type->schema_json};
        hash = kp_hash64(next, sizeof(next));
    }
    return hash;
}

/* Makes the document anew; NULL: there is no such group version any more, or never was. One whose text came out as it was stays. */
static struct document *remake(const char *name, struct document *document)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    char etag[sizeof(document->etag)];
    make(name, &text);
    if (!text.len) {
        if (document) {
            kp_strmap_remove(documents, name);
            document_done(document);
            free(document);
        }
        return NULL;
    }
    if (!document) {
        document = kp_calloc(1, sizeof(*document));
        kp_strmap_put(documents, name, document);
    }
    snprintf(etag, sizeof(etag), "%016llX", (unsigned long long)kp_hash64(text.data, text.len));
    if (strcmp(document->etag, etag) != 0) {
        kp_blob_unref(document->packed);
        document->packed = text.len <= DOCUMENT_BYTES_MAX ? http_gzip(text.data, text.len) : NULL;
        memcpy(document->etag, etag, sizeof(etag));
    }
    if (text.len >= DOCUMENT_BYTES_LARGE) {
        kp_buf_done(&text);
        malloc_trim(0); /* making one takes megabytes that are not needed again */
    }
    return document;
}

/* False: there is no such group version. The copy has a reference of its own to the bytes, whatever becomes of the document. */
static bool document_get(const char *name, struct document *ret)
{
    pthread_mutex_lock(&lock);
    if (!documents)
        documents = kp_strmap_new();
    struct document *document = kp_strmap_get(documents, name);
    uint64_t generation = kp_resources_generation(); /* before the resources: what changes from here on makes it stale */
    if (!document || document->generation != generation) {
        uint64_t custom = custom_in(name);
        if (!document || document->custom != custom)
            document = remake(name, document);
        if (document) {
            document->generation = generation;
            document->custom = custom;
        }
    }
    if (document) {
        *ret = *document;
        if (ret->packed)
            kp_blob_ref(ret->packed);
    }
    pthread_mutex_unlock(&lock);
    return document != NULL;
}

/* ---- answers ----------------------------------------------------------------------------------------------------------- */
static void respond_text(struct http_request *req, int status, const char *text)
{
    const struct http_header headers[] = {{"Content-Type", "text/plain; charset=utf-8"}};
    http_respond(req, status, headers, KP_ARRAY_LEN(headers), text, strlen(text));
}

static bool has_tag(const struct http_request *req, const char *etag)
{
    const char *match = http_request_header(req, "if-none-match");
    return match && (strcmp(match, "*") == 0 || strstr(match, etag)); /* a hash of 16 digits is in no other tag by chance */
}

static void respond_document(struct http_request *req, const struct document *document, const char *type, bool immutable)
{
    struct http_header headers[8];
    size_t count = 0;
    headers[count++] = (struct http_header){"ETag", kp_arena_printf(req->arena, "\"%s\"", document->etag)};
    headers[count++] = (struct http_header){"Vary", "Accept, Accept-Encoding"};
    headers[count++] = (struct http_header){"Cache-Control", immutable ? "public, immutable, max-age=31536000" : "no-cache, private"};
    if (has_tag(req, document->etag)) {
        http_respond(req, 304, headers, count, NULL, 0);
        return;
    }
    if (!document->packed) {
        respond_text(req, 503, "503 service unavailable: with all its custom resources this document would be too large\n");
        return;
    }
    headers[count++] = (struct http_header){"Content-Type", type};
    if (http_request_accepts_gzip(req)) {
        headers[count++] = (struct http_header){"Content-Encoding", "gzip"};
        http_respond_blob(req, 200, headers, count, document->packed);
        return;
    }
    KP_AUTO_BUF struct kp_buf text = {0};
    int code = http_gunzip(document->packed->data, document->packed->len, DOCUMENT_BYTES_MAX, &text);
    KP_ASSERT(code == 0); /* we packed it */
    http_respond(req, 200, headers, count, text.data, text.len);
}

/* The first of the offers (NULL-terminated) a clause of Accept names, clauses in the order written; NULL when none does. Quality
   is left aside but for q=0: clients of these paths list what they want best first. */
static const char *choose(struct http_request *req, const char *const *offers)
{
    const char *accept = http_request_header(req, "accept");
    if (kp_empty(accept))
        return offers[0];
    while (*accept) {
        size_t clause = strcspn(accept, ","), start = strspn(accept, " \t"), len = strcspn(accept + start, ",; \t");
        const char *type = kp_arena_strndup(req->arena, accept + start, len);
        const char *params = kp_arena_strndup(req->arena, accept, clause);
        const char *quality = strstr(params, "q=");
        bool refused = quality && strtod(quality + 2, NULL) <= 0;
        for (size_t i = 0; offers[i] && !refused; i++)
            if (strcmp(type, offers[i]) == 0 || strcmp(type, "*/*") == 0 || strcmp(type, "application/*") == 0)
                return offers[i];
        accept += clause + (accept[clause] == ',');
    }
    return NULL;
}

static void not_acceptable(struct http_request *req)
{
    respond_text(req, 406, "406 not acceptable: this document comes as application/json\n");
}

static void serve_v2(struct http_request *req)
{
    static const char *const offers[] = {"application/json", V2_PROTO, V2_PROTO_OLD, NULL};
    const char *type = choose(req, offers);
    if (!type) {
        not_acceptable(req);
        return;
    }
    bool json = type == offers[0];
    AUTO_DOCUMENT struct document document = {0};
    document_get(json ? "v2.json" : "v2.proto", &document);
    respond_document(req, &document, json ? type : V2_PROTO, false);
}

/* Those of the schema in its order, then those of custom resources. */
static void group_versions(struct kp_arena *arena, struct kp_string_list *names)
{
    size_t n;
    char gv[OA_GV_MAX];
    struct kp_strmap *known = kp_strmap_new();
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        if (!oa_served(resources[i]) || kp_strmap_get(known, oa_group_version(resources[i], gv)))
            continue;
        kp_string_list_add(arena, names, kp_arena_strdup(arena, gv));
        kp_strmap_put(known, gv, known);
    }
    kp_strmap_free(known, NULL);
}

static bool is_aggregated(const struct aggregator_view *view, const char *name)
{
    for (size_t i = 0; view && i < view->len; i++) {
        const struct aggregator_entry *entry = &view->items[i];
        size_t group = strlen(entry->group);
        if (entry->remote && kp_starts_with(name, "apis/") && strncmp(name + 5, entry->group, group) == 0 && name[5 + group] == '/' &&
            strcmp(name + 5 + group + 1, entry->version) == 0)
            return true;
    }
    return false;
}

static void put_aggregated(struct kp_buf *out, const struct aggregator_view *view, struct kp_arena *arena)
{
    for (size_t i = 0; view && i < view->len; i++) {
        const struct aggregator_entry *entry = &view->items[i];
        if (!entry->remote || !entry->openapi_url)
            continue;
        oa_key(out, kp_arena_printf(arena, "apis/%s/%s", entry->group, entry->version));
        kp_buf_putc(out, '{');
        oa_member(out, "serverRelativeURL", entry->openapi_url);
        kp_buf_putc(out, '}');
    }
}

static void serve_index(struct http_request *req, const struct aggregator_view *view)
{
    struct kp_string_list names = {0};
    group_versions(req->arena, &names);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"paths\":{");
    for (size_t i = 0; i < names.len; i++) {
        AUTO_DOCUMENT struct document document = {0};
        if (is_aggregated(view, names.items[i]) || !document_get(names.items[i], &document)) /* gone meanwhile */
            continue;
        oa_key(&out, names.items[i]);
        kp_buf_printf(&out, "{\"serverRelativeURL\":\"" V3_PREFIX "%s?hash=%s\"}", names.items[i], document.etag);
    }
    put_aggregated(&out, view, req->arena);
    kp_buf_puts(&out, "}}");
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Cache-Control", "no-cache, private"}};
    http_respond(req, 200, headers, KP_ARRAY_LEN(headers), out.data, out.len);
}

static void serve_v3(struct http_request *req, const char *name)
{
    static const char *const offers[] = {"application/json", NULL};
    AUTO_DOCUMENT struct document document = {0};
    const char *hash = http_request_query(req, "hash");
    if (kp_starts_with(name, "v2.") || !document_get(name, &document)) {
        respond_text(req, 404, "404 page not found\n");
    } else if (!choose(req, offers)) {
        not_acceptable(req);
    } else if (!kp_empty(hash) && strcmp(hash, document.etag) != 0) { /* an old link: its promise of never changing holds no more */
        const struct http_header headers[] = {
            {"Location", kp_arena_printf(req->arena, V3_PREFIX "%s?hash=%s", name, document.etag)}, {"Cache-Control", "no-cache, private"}};
        http_respond(req, 301, headers, KP_ARRAY_LEN(headers), NULL, 0);
    } else {
        respond_document(req, &document, offers[0], !kp_empty(hash));
    }
}

void openapi_serve(struct http_request *req, const struct aggregator_view *view)
{
    const char *path = req->path;
    if (strcmp(path, "/openapi/v2") == 0)
        serve_v2(req);
    else if (strcmp(path, "/openapi/v3") == 0 || strcmp(path, V3_PREFIX) == 0)
        serve_index(req, view);
    else if (kp_starts_with(path, V3_PREFIX))
        serve_v3(req, path + strlen(V3_PREFIX));
    else
        respond_text(req, 404, "404 page not found\n");
}
