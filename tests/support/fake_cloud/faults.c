/* What goes wrong in the fake cloud, and when. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/fake_cloud/fake_cloud.h"

static const char *const names[] = {[FAKE_NONE] = "none", [FAKE_ERROR_BEFORE] = "error-before", [FAKE_ERROR_AFTER] = "error-after",
                                    [FAKE_HANG_BEFORE] = "hang-before", [FAKE_HANG_AFTER] = "hang-after", [FAKE_KILL_BEFORE] = "kill-before",
                                    [FAKE_KILL_AFTER] = "kill-after", [FAKE_HALF] = "half"};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int passed; /* of the point that the fault is at */

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
    return kp_fail(error, failures[i].code, "planted: %s", failures[i].text);
}

/* Whether this passage of the point is the one, and what happens then. */
static enum fake_fault wanted(const char *point, int *ret_n)
{
    const char *spec = getenv("FAKE_CLOUD_FAULT"), *colon = spec ? strchr(spec, ':') : NULL, *what = colon ? strchr(colon + 1, ':') : NULL;
    char number[16];
    int64_t n = 0;
    if (!what || (size_t)(colon - spec) != strlen(point) || strncmp(spec, point, strlen(point)) != 0)
        return FAKE_NONE;
    snprintf(number, sizeof(number), "%.*s", (int)(what - colon - 1), colon + 1);
    KP_ASSERT(kp_parse_i64(number, &n) == 0);
    pthread_mutex_lock(&mutex);
    *ret_n = ++passed;
    pthread_mutex_unlock(&mutex);
    if (*ret_n != n)
        return FAKE_NONE;
    for (size_t i = 1; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(names[i], what + 1))
            return (enum fake_fault)i;
    KP_ASSERT(!"a fault that there is");
    return FAKE_NONE;
}

int fake_call_begin(const char *point, const char *object, struct fake_call *call, struct kp_error *error)
{
    *call = (struct fake_call){0};
    trace(point, object ? object : "-");
    call->fault = wanted(point, &call->n);
    if (call->fault != FAKE_ERROR_BEFORE && call->fault != FAKE_HANG_BEFORE && call->fault != FAKE_KILL_BEFORE)
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
