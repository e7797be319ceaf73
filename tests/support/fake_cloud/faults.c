/* What goes wrong in the fake cloud, and when. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/fake_cloud/fake_cloud.h"

static const char *const names[] = {[FAKE_NONE] = "none", [FAKE_ERROR_BEFORE] = "error-before", [FAKE_ERROR_AFTER] = "error-after",
                                    [FAKE_HANG_BEFORE] = "hang-before", [FAKE_HANG_AFTER] = "hang-after", [FAKE_KILL_BEFORE] = "kill-before",
                                    [FAKE_KILL_AFTER] = "kill-after", [FAKE_HALF] = "half",
                                    [FAKE_THROTTLE] = "throttle", [FAKE_UNAVAILABLE] = "unavailable"};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int passed, fired; /* of the point that the fault is at */
static bool is_set;       /* by fake_faults_set */
static char set_spec[128];

static void trace(const char *what, const char *object)
{
    const char *path = getenv("FAKE_CLOUD_TRACE");
    if (kp_empty(path))
        return;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    KP_ASSERT(fd >= 0);
    dprintf(fd, "%s %s\n", what, object);
    close(fd);
}

static _Noreturn void hang(void)
{
    for (;;)
        pause();
}

static void fire(const struct fake_call *call)
{
    trace("fault", names[call->fault]);
    pthread_mutex_lock(&mutex);
    fired++;
    pthread_mutex_unlock(&mutex);
    if (call->fault == FAKE_KILL_BEFORE || call->fault == FAKE_KILL_AFTER || call->fault == FAKE_HALF) {
        kill(getpid(), SIGKILL);
        hang();
    }
    if (call->fault == FAKE_HANG_BEFORE || call->fault == FAKE_HANG_AFTER)
        hang();
}

static int fail(const struct fake_call *call, struct kp_error *error)
{
    static const struct {
        int code;
        const char *text;
    } failures[] = {{KP_EUNAVAILABLE, "the cloud is not to be reached"}, {KP_EQUOTA, "the quota is used up"}, {KP_EINVALID, "the request is not understood"},
                    {KP_EUNAUTHORIZED, "the token is not valid any more"}};
    size_t i = (size_t)call->n % KP_ARRAY_LEN(failures);
    if (call->fault == FAKE_THROTTLE) {
        int r = kp_fail(error, KP_ETOOMANY, "planted: too many requests");
        if (error)
            error->retry_after_ms = FAKE_RETRY_AFTER_MS;
        return r;
    }
    if (call->fault == FAKE_UNAVAILABLE)
        return kp_fail(error, KP_EUNAVAILABLE, "planted: internal error of the cloud");
    return kp_fail(error, failures[i].code, "planted: %s", failures[i].text);
}

void fake_faults_set(const char *spec)
{
    pthread_mutex_lock(&mutex);
    is_set = true;
    passed = fired = 0;
    snprintf(set_spec, sizeof(set_spec), "%s", spec ? spec : "");
    pthread_mutex_unlock(&mutex);
}

int fake_faults_fired(void)
{
    pthread_mutex_lock(&mutex);
    int n = fired;
    pthread_mutex_unlock(&mutex);
    return n;
}

static enum fake_fault fault_named(const char *name)
{
    for (size_t i = 1; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(names[i], name))
            return (enum fake_fault)i;
    KP_ASSERT(!"a fault that there is");
    return FAKE_NONE;
}

/* Whether this passage of the point is the one, and what happens then. */
static enum fake_fault wanted(const char *point, int *ret_n)
{
    const char *of_env = getenv("FAKE_CLOUD_FAULT");
    char spec[sizeof(set_spec)], *words[4] = {NULL}, *rest = spec;
    int64_t n = 0, times = 1;
    enum fake_fault fault = FAKE_NONE;
    pthread_mutex_lock(&mutex);
    snprintf(spec, sizeof(spec), "%s", is_set ? set_spec : of_env ? of_env : "");
    for (size_t i = 0; i < KP_ARRAY_LEN(words) && rest; i++)
        words[i] = strsep(&rest, ":");
    if (words[2] && kp_streq(words[0], point)) {
        KP_ASSERT(kp_parse_i64(words[1], &n) == 0 && (!words[3] || kp_parse_i64(words[3], &times) == 0));
        *ret_n = ++passed;
        if (*ret_n >= n && *ret_n < n + times)
            fault = fault_named(words[2]);
    }
    pthread_mutex_unlock(&mutex);
    return fault;
}

static bool is_before(enum fake_fault fault)
{
    return fault == FAKE_ERROR_BEFORE || fault == FAKE_HANG_BEFORE || fault == FAKE_KILL_BEFORE || fault == FAKE_THROTTLE || fault == FAKE_UNAVAILABLE;
}

int fake_call_begin(const char *point, const char *object, struct fake_call *call, struct kp_error *error)
{
    *call = (struct fake_call){0};
    trace(point, object ? object : "-");
    call->fault = wanted(point, &call->n);
    if (!is_before(call->fault))
        return 0;
    fire(call);
    return fail(call, error);
}

void fake_call_half(const struct fake_call *call)
{
    if (call->fault == FAKE_HALF)
        fire(call);
}

int fake_call_end(const struct fake_call *call, int r, struct kp_error *error)
{
    if (call->fault != FAKE_ERROR_AFTER && call->fault != FAKE_HANG_AFTER && call->fault != FAKE_KILL_AFTER)
        return r;
    fire(call);
    return fail(call, error);
}
