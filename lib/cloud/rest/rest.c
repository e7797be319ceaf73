/* Requests over libcurl: one easy handle an attempt in flight, kept for its connections. */
#include "cloud/rest/rest.h"

#include <curl/curl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/version.h"

#include "cloud/rest/rest_internal.h"

#define ATTEMPT_TIMEOUT_MS 30000
#define DEADLINE_MS 120000
#define ATTEMPTS_MAX 8
#define CONNECT_TIMEOUT_MS 10000
#define IDLE_HANDLES_MAX 8
#define ANSWER_HEADERS_MAX 128
#define DETAIL_MAX 400 /* bytes of what the cloud said that go into an error */
#define URL_SHOWN_MAX 200

/* Of one cloud, in the whole process: a family is registered once. */
struct metrics {
    char durations_name[80], errors_name[80]; /* which the registry borrows for good */
    struct kp_metric *durations, *errors;
};

struct rest {
    char cloud[32];
    char *ca_file, *user_agent;
    bool insecure;
    int64_t attempt_timeout_ms, deadline_ms;
    int attempts_max;
    const struct metrics *metrics;
    pthread_mutex_t mutex;
    CURL *idle[IDLE_HANDLES_MAX];
    size_t n_idle;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void init_curl(void)
{
    KP_ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static const struct metrics *metrics_of(const char *cloud)
{
    static const double buckets[] = {0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30};
    static const char *const labels[] = {"request", NULL};
    static const char *const error_labels[] = {"request", "code", NULL};
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static struct kp_strmap *clouds; /* name -> struct metrics; as long as the process */
    pthread_mutex_lock(&mutex);
    if (!clouds)
        clouds = kp_strmap_new();
    struct metrics *metrics = kp_strmap_get(clouds, cloud);
    if (!metrics) {
        metrics = kp_calloc(1, sizeof *metrics);
        snprintf(metrics->durations_name, sizeof metrics->durations_name, "cloudprovider_%s_api_request_duration_seconds", cloud);
        snprintf(metrics->errors_name, sizeof metrics->errors_name, "cloudprovider_%s_api_request_errors", cloud);
        metrics->durations = kp_histogram(metrics->durations_name, "How long one attempt of a request to the cloud took.", labels, buckets,
                                          KP_ARRAY_LEN(buckets));
        metrics->errors = kp_counter(metrics->errors_name, "Attempts that were answered with an error or not at all, by status (0: no answer).",
                                     error_labels);
        kp_strmap_put(clouds, cloud, metrics);
    }
    pthread_mutex_unlock(&mutex);
    return metrics;
}

int rest_new(const struct rest_options *options, struct rest **ret, struct kp_error *error)
{
    if (!kp_empty(options->ca_file) && access(options->ca_file, R_OK) != 0)
        return kp_fail_errno(error, "certificates of authorities for cloud %s: %s", options->cloud, options->ca_file);
    pthread_once(&curl_once, init_curl);
    struct rest *rest = kp_calloc(1, sizeof *rest);
    snprintf(rest->cloud, sizeof rest->cloud, "%s", options->cloud);
    rest->ca_file = kp_empty(options->ca_file) ? NULL : kp_strdup(options->ca_file);
    rest->user_agent = kp_asprintf("kprov/%s", kp_version);
    rest->insecure = options->insecure;
    rest->attempt_timeout_ms = options->attempt_timeout_ms ? options->attempt_timeout_ms : ATTEMPT_TIMEOUT_MS;
    rest->deadline_ms = options->deadline_ms ? options->deadline_ms : DEADLINE_MS;
    rest->attempts_max = options->attempts_max ? options->attempts_max : ATTEMPTS_MAX;
    pthread_mutex_init(&rest->mutex, NULL);
    rest->metrics = metrics_of(rest->cloud);
    *ret = rest;
    return 0;
}

void rest_free(struct rest *rest)
{
    if (!rest)
        return;
    for (size_t i = 0; i < rest->n_idle; i++)
        curl_easy_cleanup(rest->idle[i]);
    pthread_mutex_destroy(&rest->mutex);
    free(rest->ca_file);
    free(rest->user_agent);
    free(rest);
}

/* ---- handles */
static CURL *take_handle(struct rest *rest)
{
    CURL *curl = NULL;
    pthread_mutex_lock(&rest->mutex);
    if (rest->n_idle)
        curl = rest->idle[--rest->n_idle];
    pthread_mutex_unlock(&rest->mutex);
    if (curl)
        curl_easy_reset(curl); /* keeps its connections */
    else
        curl = curl_easy_init();
    KP_ASSERT(curl);
    return curl;
}

static void give_back(struct rest *rest, CURL *curl)
{
    pthread_mutex_lock(&rest->mutex);
    bool keep = rest->n_idle < IDLE_HANDLES_MAX;
    if (keep)
        rest->idle[rest->n_idle++] = curl;
    pthread_mutex_unlock(&rest->mutex);
    if (!keep)
        curl_easy_cleanup(curl);
}

/* ---- one attempt */
struct exchange {
    struct kp_arena *arena;
    struct kp_buf body;
    bool too_large;
    const char **headers;
    size_t n_headers;
    bool head_whole; /* libcurl takes a head that breaks off for a whole one */
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    size_t len = size * n;
    if (len > REST_ANSWER_MAX - x->body.len) {
        x->too_large = true;
        return 0;
    }
    kp_buf_append(&x->body, data, len);
    return len;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct exchange *x = arg;
    size_t len = size * n, end = len;
    while (end && (data[end - 1] == '\r' || data[end - 1] == '\n'))
        end--;
    x->head_whole = end == 0;
    if (end > 5 && !memcmp(data, "HTTP/", 5))
        x->n_headers = 0; /* of an interim answer before */
    else if (end && x->n_headers < ANSWER_HEADERS_MAX)
        x->headers[x->n_headers++] = kp_arena_printf(x->arena, "%.*s", (int)end, data);
    return len;
}

static size_t on_upload(char *into, size_t size, size_t n, void *arg)
{
    const struct rest_request *request = arg;
    ssize_t got = read(request->upload_fd, into, size * n);
    return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    const struct rest_request *request = arg;
    return lseek(request->upload_fd, offset, origin) < 0 ? CURL_SEEKFUNC_FAIL : CURL_SEEKFUNC_OK;
}

static void set_body(CURL *curl, const struct rest_request *request)
{
    if (request->upload_len > 0) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_upload);
        curl_easy_setopt(curl, CURLOPT_READDATA, (void *)request);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, (void *)request);
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->upload_len);
    } else if (request->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
    } else if (kp_streq(request->method, "POST") || kp_streq(request->method, "PUT")) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    }
    if (kp_streq(request->method, "HEAD"))
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

static bool repeats(const struct rest_request *request)
{
    return request->repeatable || kp_streq(request->method, "GET") || kp_streq(request->method, "HEAD") || kp_streq(request->method, "PUT") ||
           kp_streq(request->method, "DELETE");
}

static void set_up(struct rest *rest, CURL *curl, const struct rest_request *request, struct curl_slist *headers, struct exchange *x, int64_t left_ms)
{
    /* Uploads take as long as the deadline lets them. */
    int64_t timeout = request->upload_len > 0 || rest->attempt_timeout_ms > left_ms ? left_ms : rest->attempt_timeout_ms;
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, rest->user_agent);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(timeout < CONNECT_TIMEOUT_MS ? timeout : CONNECT_TIMEOUT_MS));
    curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    if (rest->ca_file)
        curl_easy_setopt(curl, CURLOPT_CAINFO, rest->ca_file);
    if (rest->insecure) {
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    /* libcurl sends a request again by itself when a kept connection turns out to be dead: not one that may have been carried out. */
    curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, repeats(request) ? 0L : 1L);
    set_body(curl, request);
    if (request->sigv4) {
        curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, request->sigv4);
        curl_easy_setopt(curl, CURLOPT_USERNAME, request->user);
        curl_easy_setopt(curl, CURLOPT_PASSWORD, request->secret);
    }
}

static enum rest_outcome outcome_of(CURLcode code, CURL *curl)
{
    long sent = 0;
    switch (code) {
    case CURLE_OK: return REST_ANSWERED;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT: return REST_NOT_SENT;
    case CURLE_OPERATION_TIMEDOUT:
        curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
        return sent ? REST_LOST : REST_NOT_SENT;
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return REST_LOST;
    default: return REST_HOPELESS;
    }
}

/* The URL without its query: that may hold what is nobody's business. */
static const char *shown(const char *url, struct kp_arena *arena)
{
    size_t len = strcspn(url, "?");
    return kp_arena_printf(arena, "%.*s", (int)(len < URL_SHOWN_MAX ? len : URL_SHOWN_MAX), url);
}

static int fail_curl(const struct rest *rest, const struct rest_request *request, const struct exchange *x, CURLcode code, const char *text,
                     struct kp_error *error)
{
    const char *url = shown(request->url, x->arena);
    if (x->too_large)
        return kp_fail(error, KP_ETOOLARGE, "%s: the answer of %s has more than %zu bytes", request->operation, url, REST_ANSWER_MAX);
    int kind = code == CURLE_OPERATION_TIMEDOUT ? KP_ETIMEOUT : KP_EUNAVAILABLE;
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE || code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL)
        kind = KP_EINVALID;
    return kp_fail(error, kind, "%s: cloud %s at %s: %s", request->operation, rest->cloud, url, code == CURLE_OK ? "the answer broke off" : text[0] ? text : curl_easy_strerror(code));
}

/* Fills in *ret with the answer, if there is one. */
static enum rest_outcome attempt(struct rest *rest, const struct rest_request *request, struct curl_slist *headers, int64_t left_ms,
                                 struct kp_arena *arena, struct rest_answer *ret, struct kp_error *error)
{
    char text[CURL_ERROR_SIZE] = "";
    struct exchange x = {.arena = arena, .headers = KP_NEW_ARRAY(arena, const char *, ANSWER_HEADERS_MAX + 1)};
    long status = 0;
    curl_off_t retry_after_s = 0;
    if (request->upload_len > 0 && lseek(request->upload_fd, 0, SEEK_SET) < 0) {
        kp_fail_errno(error, "%s: read the file to upload", request->operation);
        return REST_HOPELESS;
    }
    CURL *curl = take_handle(rest);
    set_up(rest, curl, request, headers, &x, left_ms);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
    int64_t began = kp_mono_ns();
    CURLcode code = curl_easy_perform(curl);
    enum rest_outcome outcome = x.too_large ? REST_HOPELESS : outcome_of(code, curl);
    if (outcome == REST_ANSWERED && !x.head_whole)
        outcome = REST_LOST;
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, NULL);
    kp_metric_observe(rest->metrics->durations, (double)(kp_mono_ns() - began) / 1e9, request->operation);
    if (outcome == REST_ANSWERED) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &retry_after_s);
        if (retry_after_s > 24 * 3600)
            retry_after_s = 24 * 3600;
        x.headers[x.n_headers] = NULL;
        ret->status = (int)status;
        ret->headers = x.headers;
        ret->retry_after_ms = retry_after_s > 0 ? retry_after_s * 1000 : 0;
        ret->body_len = x.body.len;
        ret->body = kp_arena_printf(arena, "%s", "");
        if (x.body.len) {
            char *body = kp_arena_alloc(arena, x.body.len + 1);
            memcpy(body, x.body.data, x.body.len);
            ret->body = body;
        }
    } else {
        fail_curl(rest, request, &x, code, text, error);
    }
    if (outcome != REST_ANSWERED || status >= 400) {
        char number[8];
        snprintf(number, sizeof number, "%ld", status % 1000);
        kp_metric_add(rest->metrics->errors, 1, request->operation, number);
    }
    give_back(rest, curl);
    kp_buf_done(&x.body);
    return outcome;
}

static int make_headers(const struct rest_request *request, struct curl_slist **ret, struct kp_error *error)
{
    struct curl_slist *list = NULL;
    for (size_t i = 0; request->headers && request->headers[i]; i++) {
        if (i >= REST_HEADERS_MAX || strpbrk(request->headers[i], "\r\n")) {
            curl_slist_free_all(list);
            return kp_fail(error, KP_EINVALID, "%s: header %zu has a line break, or is more than %d", request->operation, i, REST_HEADERS_MAX);
        }
        list = curl_slist_append(list, request->headers[i]);
    }
    if (!request->sigv4) /* libcurl 7.88 would sign that header, which it does not send */
        list = curl_slist_append(list, "Expect:"); /* no 100-continue: one round trip less, and some clouds do not answer it */
    *ret = list;
    return 0;
}

int rest_do(struct rest *rest, const struct rest_request *request, struct kp_arena *arena, struct rest_answer *ret, struct kp_error *error)
{
    struct curl_slist *headers = NULL;
    struct kp_error local = {0};
    int64_t deadline = kp_mono_ms() + (request->deadline_ms ? request->deadline_ms : rest->deadline_ms);
    error = error ? error : &local;
    *ret = (struct rest_answer){0};
    if (make_headers(request, &headers, error) < 0)
        return error->code;
    enum rest_outcome outcome;
    for (int number = 1;; number++) {
        int64_t left = deadline - kp_mono_ms();
        outcome = attempt(rest, request, headers, left > 1 ? left : 1, arena, ret, error);
        ret->attempts = number;
        const struct rest_attempt made = {
            .outcome = outcome, .status = ret->status, .number = number, .retry_after_ms = outcome == REST_ANSWERED ? ret->retry_after_ms : 0,
            .left_ms = deadline - kp_mono_ms(), .random = kp_random_u64(),
        };
        int64_t wait = rest_wait(&made, repeats(request), rest->attempts_max);
        if (wait < 0)
            break;
        if (outcome == REST_ANSWERED)
            kp_debug("cloud asks for patience", "request", request->operation, NULL);
        else
            kp_debug("no answer from the cloud, trying again", "request", request->operation, "error", error->message, NULL);
        kp_sleep_ms(wait);
    }
    curl_slist_free_all(headers);
    return outcome == REST_ANSWERED ? 0 : error->code;
}

/* ---- answers */
const char *rest_header(const struct rest_answer *answer, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; answer->headers && answer->headers[i]; i++) {
        const char *line = answer->headers[i];
        if (strncasecmp(line, name, len) != 0 || line[len] != ':')
            continue;
        line += len + 1;
        return line + strspn(line, " \t");
    }
    return NULL;
}

int rest_fail(const struct rest_request *request, const struct rest_answer *answer, const char *detail, struct kp_error *error)
{
    int code = kp_fail(error, rest_code(answer->status), "%s: %d: %.*s", request->operation, answer->status, DETAIL_MAX,
                       kp_empty(detail) ? "the cloud gave no reason" : detail);
    if (error)
        error->retry_after_ms = answer->retry_after_ms;
    return code;
}

void rest_escape(struct kp_buf *out, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-_.~", c))
            kp_buf_append(out, s, 1);
        else
            kp_buf_printf(out, "%%%02X", c);
    }
}
