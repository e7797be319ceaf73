/* Serves the documents: which one, in which form, and whether the client has it already. */
#include "controlplane/apiserver/openapi/openapi.h"
#include "controlplane/apiserver/openapi/openapi_internal.h"

#include <malloc.h>
#include <pthread.h>

#define DOCUMENT_BYTES_MAX ((size_t)32 << 20)
#define GROUP_VERSIONS_MAX 64
#define V3_PREFIX "/openapi/v3/"
#define V2_PROTO "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
#define V2_PROTO_OLD "application/com.github.proto-openapi.spec.v2@v1.0+protobuf" /* what clients before 1.27 ask for */

/* A document at rest. It is kept packed, a tenth of its size, so that it can stay for good: the tables it is made of never change. */
struct document {
    struct kp_blob *packed; /* gzip */
    char etag[24];          /* 16 hex digits */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct kp_strmap *documents; /* by name: "v2.json", "v2.proto", "apis/apps/v1"; made on first use, lives as long as the process */

static void make(const char *name, struct kp_buf *out)
{
    if (strcmp(name, "v2.json") == 0)
        oa_document_v2(out);
    else if (strcmp(name, "v2.proto") == 0)
        oa_document_v2_proto(out);
    else
        oa_document_v3(name, out);
}

/* NULL: there is no such group version. The document is never freed or changed. */
static const struct document *document_get(const char *name)
{
    pthread_mutex_lock(&lock);
    if (!documents)
        documents = kp_strmap_new();
    struct document *document = kp_strmap_get(documents, name);
    if (!document) {
        KP_AUTO_BUF struct kp_buf text = {0};
        make(name, &text);
        if (text.len) {
            document = kp_calloc(1, sizeof(*document));
            document->packed = http_gzip(text.data, text.len);
            KP_ASSERT(document->packed && text.len <= DOCUMENT_BYTES_MAX);
            snprintf(document->etag, sizeof(document->etag), "%016llX", (unsigned long long)kp_hash64(text.data, text.len));
            kp_strmap_put(documents, name, document);
            kp_buf_done(&text);
            malloc_trim(0); /* making one takes megabytes that are not needed again */
        }
    }
    pthread_mutex_unlock(&lock);
    return document;
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
    respond_document(req, document_get(json ? "v2.json" : "v2.proto"), json ? type : V2_PROTO, false);
}

static size_t group_versions(char names[GROUP_VERSIONS_MAX][OA_GV_MAX])
{
    size_t n, count = 0;
    char gv[OA_GV_MAX];
    const struct kp_resource *const *resources = kp_resources(&n);
    for (size_t i = 0; i < n; i++) {
        bool known = !oa_served(resources[i]);
        oa_group_version(resources[i], gv);
        for (size_t j = 0; j < count && !known; j++)
            known = strcmp(names[j], gv) == 0;
        if (known)
            continue;
        KP_ASSERT(count < GROUP_VERSIONS_MAX);
        snprintf(names[count++], OA_GV_MAX, "%s", gv);
    }
    return count;
}

static void serve_index(struct http_request *req)
{
    char names[GROUP_VERSIONS_MAX][OA_GV_MAX];
    size_t count = group_versions(names);
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, "{\"paths\":{");
    for (size_t i = 0; i < count; i++) {
        oa_key(&out, names[i]);
        kp_buf_printf(&out, "{\"serverRelativeURL\":\"" V3_PREFIX "%s?hash=%s\"}", names[i], document_get(names[i])->etag);
    }
    kp_buf_puts(&out, "}}");
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Cache-Control", "no-cache, private"}};
    http_respond(req, 200, headers, KP_ARRAY_LEN(headers), out.data, out.len);
}

static void serve_v3(struct http_request *req, const char *name)
{
    static const char *const offers[] = {"application/json", NULL};
    bool proper = strcmp(name, "v2.json") != 0 && strcmp(name, "v2.proto") != 0;
    const struct document *document = proper ? document_get(name) : NULL;
    const char *hash = http_request_query(req, "hash");
    if (!document) {
        respond_text(req, 404, "404 page not found\n");
    } else if (!choose(req, offers)) {
        not_acceptable(req);
    } else if (!kp_empty(hash) && strcmp(hash, document->etag) != 0) { /* an old link: its promise of never changing holds no more */
        const struct http_header headers[] = {
            {"Location", kp_arena_printf(req->arena, V3_PREFIX "%s?hash=%s", name, document->etag)}, {"Cache-Control", "no-cache, private"}};
        http_respond(req, 301, headers, KP_ARRAY_LEN(headers), NULL, 0);
    } else {
        respond_document(req, document, offers[0], !kp_empty(hash));
    }
}

void openapi_serve(struct http_request *req)
{
    const char *path = req->path;
    if (strcmp(path, "/openapi/v2") == 0)
        serve_v2(req);
    else if (strcmp(path, "/openapi/v3") == 0 || strcmp(path, V3_PREFIX) == 0)
        serve_index(req);
    else if (kp_starts_with(path, V3_PREFIX))
        serve_v3(req, path + strlen(V3_PREFIX));
    else
        respond_text(req, 404, "404 page not found\n");
}
