/* Calls of AWS's query APIs: signed by libcurl, made again as the SDKs' standard retry mode does - a quota of retries that successes fill up,
 * and full jitter between them - and paged. */
#include "cloud/aws/aws_internal.h"

#include <time.h>

#define RETRY_QUOTA 500
#define RETRY_COST 5
#define RETRY_COST_TIMEOUT 10
#define DEADLINE_MS 100000
#define SKEW_MIN_S 120 /* below this it is not the clock */

static const char *const versions[AWS_SERVICES] = {"2016-11-15", "2015-12-01", "2011-06-15", NULL /* no query API */, "2010-05-08"};

struct query {
    struct aws *aws;
    enum aws_service service;
    const char *action, *operation;
    unsigned flags;
    struct kp_arena *arena;
    struct aws_rest call; /* of a query the body alone */
    int attempts, held; /* held: taken from the quota for the retries so far */
    bool keys_renewed;
    int64_t began_ms;
};

static bool take_quota(struct query *q, int cost)
{
    pthread_mutex_lock(&q->aws->state_lock);
    bool enough = q->aws->retry_quota >= cost;
    if (enough)
        q->aws->retry_quota -= cost;
    pthread_mutex_unlock(&q->aws->state_lock);
    if (enough)
        q->held = cost;
    return enough;
}

static void give_quota(struct query *q)
{
    pthread_mutex_lock(&q->aws->state_lock);
    q->aws->retry_quota = KP_MIN(RETRY_QUOTA, q->aws->retry_quota + (q->held ? q->held : 1));
    pthread_mutex_unlock(&q->aws->state_lock);
}

/* False when there is no time, no attempt or no quota left. */
static bool wait_before_retry(struct query *q, int cost, int64_t asked_ms)
{
    struct aws *aws = q->aws;
    if (q->attempts >= aws->attempts_max || !take_quota(q, cost))
        return false;
    int64_t limit = aws->backoff_ms;
    for (int i = 1; i < q->attempts && limit < aws->backoff_ms_max; i++)
        limit *= 2;
    limit = KP_MIN(limit, aws->backoff_ms_max);
    int64_t wait = KP_MAX(limit > 0 ? (int64_t)(kp_random_u64() % (uint64_t)(limit + 1)) : 0, asked_ms);
    if (kp_mono_ms() - q->began_ms + wait > DEADLINE_MS)
        return false;
    kp_sleep_ms(wait);
    return true;
}

/* What AWS's clock says against ours, from the answer's Date. */
static bool learn_skew(struct aws *aws, const struct rest_answer *answer)
{
    const char *date = rest_header(answer, "Date");
    struct tm tm = {0};
    if (!date || !strptime(date, "%a, %d %b %Y %H:%M:%S", &tm))
        return false;
    int64_t skew = (int64_t)timegm(&tm) - kp_now_s();
    pthread_mutex_lock(&aws->state_lock);
    int64_t change = skew - aws->skew_s;
    bool changed = change > SKEW_MIN_S || change < -SKEW_MIN_S;
    if (changed)
        aws->skew_s = skew;
    pthread_mutex_unlock(&aws->state_lock);
    return changed;
}

static time_t now_of(struct aws *aws)
{
    pthread_mutex_lock(&aws->state_lock);
    int64_t skew = aws->skew_s;
    pthread_mutex_unlock(&aws->state_lock);
    return (time_t)(kp_now_s() + skew);
}

static int send_signed(struct query *q, const struct aws_keys *keys, struct rest_answer *ret, struct kp_error *error)
{
    const char *headers[AWS_REST_HEADERS_MAX + 2] = {kp_arena_printf(q->arena, "Content-Type: %s", q->call.type)};
    size_t n = 1;
    for (size_t i = 0; q->call.headers && q->call.headers[i] && i < AWS_REST_HEADERS_MAX; i++)
        headers[n++] = q->call.headers[i];
    const struct aws_signing signing = {
        .method = q->call.method, .url = kp_arena_printf(q->arena, "%s%s", q->aws->endpoints[q->service], q->call.path), .headers = headers,
        .body = q->call.body, .body_len = q->call.body_len, .unsigned_body = q->call.unsigned_body, .region = q->aws->region,
        .service = aws_service_names[q->service], .keys = keys, .now = now_of(q->aws)};
    const struct rest_request request = {.operation = q->operation, .method = signing.method, .url = signing.url, .headers = aws_sign(&signing, q->arena),
                                         .body = q->call.body, .body_len = q->call.body_len, .repeatable = !(q->flags & AWS_ONCE)};
    return rest_do(q->aws->rest, &request, q->arena, ret, error);
}

/* IAM is one for all regions, and signed for the first of them. */
static const char *signing_region(const struct query *q)
{
    return q->service == AWS_IAM ? "us-east-1" : q->aws->region;
}

/* libcurl signs with the time of X-Amz-Date when there is one, else with the host's. */
static const char *date_header(struct aws *aws, struct kp_arena *arena)
{
    char text[32];
    struct tm tm;
    pthread_mutex_lock(&aws->state_lock);
    int64_t skew = aws->skew_s;
    pthread_mutex_unlock(&aws->state_lock);
    if (skew == 0)
        return NULL;
    const time_t now = (time_t)(kp_now_s() + skew);
    gmtime_r(&now, &tm);
    strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &tm);
    return kp_arena_printf(arena, "X-Amz-Date: %s", text);
}

static int send(struct query *q, const struct aws_keys *keys, struct rest_answer *ret, struct kp_error *error)
{
    const char *headers[4] = {"Content-Type: application/x-www-form-urlencoded; charset=utf-8"};
    size_t n = 1;
    const char *date = date_header(q->aws, q->arena);
    if (date)
        headers[n++] = date;
    if (*keys->token)
        headers[n++] = kp_arena_printf(q->arena, "X-Amz-Security-Token: %s", keys->token);
    headers[n] = NULL;
    const struct rest_request request = {
        .operation = q->operation, .method = "POST", .url = kp_arena_printf(q->arena, "%s/", q->aws->endpoints[q->service]), .headers = headers,
        .body = q->call.body, .body_len = q->call.body_len, .repeatable = !(q->flags & AWS_ONCE), .user = keys->id, .secret = keys->secret,
        .sigv4 = kp_arena_printf(q->arena, "aws:amz:%s:%s", signing_region(q), aws_service_names[q->service])};
    return rest_do(q->aws->rest, &request, q->arena, ret, error);
}

static int fail(struct query *q, const struct rest_answer *answer, const struct aws_keys *keys, const char *code, const char *message, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int kind = aws_code(code, answer->status);
    kp_buf_printf(&text, "%s: %s%s%.600s", q->action, *code ? code : "", *code ? ": " : "", message);
    if (!*code && !*message)
        kp_buf_printf(&text, "status %d", answer->status);
    if (q->attempts > 1)
        kp_buf_printf(&text, " (%d attempts)", q->attempts);
    if (kind == KP_EUNAUTHORIZED)
        kp_buf_printf(&text, " (keys of %s)", keys->source);
    kp_fail(error, kind, "%s", text.data);
    if (error)
        error->retry_after_ms = answer->retry_after_ms ? answer->retry_after_ms : kind == KP_ETOOMANY ? q->aws->backoff_ms_max : 0;
    return kind;
}

/* Whether to go on after an answer that is no success. */
static bool goes_on(struct query *q, const struct rest_answer *answer, const struct aws_keys *keys, const char *code)
{
    switch (aws_retry_of(code, answer->status)) {
    case AWS_THROTTLED: return wait_before_retry(q, RETRY_COST, answer->retry_after_ms);
    case AWS_TRANSIENT: /* 503 was refused before anything was done; of others nobody knows */
        return !(q->flags & AWS_ONCE && answer->status != 503) && wait_before_retry(q, RETRY_COST, answer->retry_after_ms);
    case AWS_SKEWED: return learn_skew(q->aws, answer);
    case AWS_STALE_KEYS:
        aws_keys_forget(q->aws, keys->id);
        return !q->keys_renewed && (q->keys_renewed = true);
    case AWS_FINAL: break;
    }
    /* EC2 says no more than AuthFailure when the clock is wrong, and when a Secret was replaced. */
    if (aws_code(code, answer->status) != KP_EUNAUTHORIZED || q->keys_renewed)
        return false;
    q->keys_renewed = true;
    aws_keys_forget(q->aws, keys->id);
    return learn_skew(q->aws, answer);
}

static int run(struct query *q, struct rest_answer *ret, struct kp_error *error)
{
    for (;;) {
        struct aws_keys keys;
        const char *code, *message;
        int r = aws_keys_get(q->aws, q->arena, &keys, error);
        if (r < 0)
            return r;
        q->attempts++;
        r = q->call.path ? send_signed(q, &keys, ret, error) : send(q, &keys, ret, error);
        if (r == 0 && ret->status >= 200 && ret->status < 300) {
            give_quota(q);
            return 0;
        }
        if (r < 0) {
            bool passing = r == KP_EUNAVAILABLE || r == KP_ETIMEOUT;
            if (!passing || q->flags & AWS_ONCE || !wait_before_retry(q, r == KP_ETIMEOUT ? RETRY_COST_TIMEOUT : RETRY_COST, 0))
                return r;
            continue;
        }
        aws_read_error(ret, q->arena, &code, &message);
        if (q->attempts >= q->aws->attempts_max || !goes_on(q, ret, &keys, code))
            return fail(q, ret, &keys, code, message, error);
    }
}

int aws_do(struct aws *aws, enum aws_service service, const char *action, struct aws_form *form, unsigned flags, struct kp_arena *arena,
           const struct aws_node **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf body = {0};
    struct rest_answer answer;
    const struct aws_node *root = NULL;
    kp_buf_printf(&body, "Action=%s&Version=%s", action, versions[service]);
    if (form && form->text.len) {
        kp_buf_putc(&body, '&');
        kp_buf_append(&body, form->text.data, form->text.len);
    }
    if (form)
        aws_form_done(form);
    struct query q = {.aws = aws, .service = service, .action = action, .flags = flags, .arena = arena, .began_ms = kp_mono_ms(),
                      .call = {.body = body.data, .body_len = body.len},
                      .operation = kp_arena_printf(arena, "%s.%s", aws_service_names[service], action)};
    int r = run(&q, &answer, error);
    if (r < 0 || !ret)
        return r;
    if (aws_xml_parse(answer.body, answer.body_len, arena, &root, error) < 0)
        return kp_wrap(error, "%s", action);
    *ret = root;
    if (service != AWS_EC2) {
        const struct aws_node *result = aws_at(root, kp_arena_printf(arena, "%sResult", action));
        *ret = result ? result : root;
    }
    return 0;
}

int aws_rest_do(struct aws *aws, enum aws_service service, const char *action, const struct aws_rest *call, struct kp_arena *arena,
                struct rest_answer *ret, struct kp_error *error)
{
    struct query q = {.aws = aws, .service = service, .action = action, .arena = arena, .call = *call, .began_ms = kp_mono_ms(),
                      .operation = kp_arena_printf(arena, "%s.%s", aws_service_names[service], action)};
    return run(&q, ret, error);
}

int aws_list(struct aws *aws, enum aws_service service, const char *action, struct aws_form *form, const char *path, struct kp_arena *arena,
             struct aws_list *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf first = form->text; /* every page asks the same */
    const char *token = "", *const token_in = service == AWS_EC2 ? "NextToken" : "Marker", *const token_out = service == AWS_EC2 ? "nextToken" : "NextMarker";
    size_t room = 0;
    *form = (struct aws_form){0};
    *ret = (struct aws_list){0};
    for (int page = 0; page < AWS_PAGES_MAX; page++) {
        AWS_FORM asked = {0};
        const struct aws_node *answer;
        if (first.len)
            kp_buf_puts(&asked.text, first.data);
        if (*token)
            aws_set(&asked, token_in, token);
        int r = aws_do(aws, service, action, &asked, 0, arena, &answer, error);
        if (r < 0)
            return r;
        for (const struct aws_node *item = aws_at(answer, path); item; item = aws_again(item)) {
            if (ret->len == room) {
                const struct aws_node **old = ret->items;
                room = room ? 2 * room : 16;
                ret->items = KP_NEW_ARRAY(arena, const struct aws_node *, room);
                for (size_t i = 0; i < ret->len; i++)
                    ret->items[i] = old[i];
            }
            ret->items[ret->len++] = item;
        }
        const char *next = aws_text(answer, token_out);
        if (!*next)
            return 0;
        if (kp_streq(next, token))
            break;
        token = next;
    }
    return kp_fail(error, KP_ECORRUPT, "%s: AWS's pages have no end", action);
}

int aws_simple(struct aws *aws, enum aws_service service, const char *action, const char *name, const char *value, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    AWS_FORM form = {0};
    struct kp_error why = {0};
    aws_set(&form, name, value);
    int r = aws_do(aws, service, action, &form, 0, arena, NULL, &why);
    if (r == 0 || r == KP_ENOTFOUND || r == KP_EEXISTS)
        return 0;
    return aws_pass(error, &why);
}
