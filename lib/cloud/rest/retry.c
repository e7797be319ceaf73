/* Which attempts are made again, and after how long: exponential back-off with full jitter (Brooker, AWS Architecture Blog 2015). */
#include "cloud/rest/rest_internal.h"

#define BASE_MS 200
#define LONGEST_MS 10000

static bool may_repeat(const struct rest_attempt *attempt, bool repeatable)
{
    switch (attempt->outcome) {
    case REST_NOT_SENT: return true;
    case REST_LOST: return repeatable;
    case REST_HOPELESS: return false;
    case REST_ANSWERED: break;
    }
    switch (attempt->status) {
    case 429:
    case 503: return true; /* refused before anything was done */
    case 408:
    case 500:
    case 502:
    case 504: return repeatable;
    default: return false;
    }
}

int64_t rest_wait(const struct rest_attempt *attempt, bool repeatable, int attempts_max)
{
    if (attempt->number >= attempts_max || !may_repeat(attempt, repeatable))
        return -1;
    int shift = attempt->number - 1;
    int64_t cap = shift < 10 ? (int64_t)BASE_MS << shift : LONGEST_MS;
    if (cap > LONGEST_MS)
        cap = LONGEST_MS;
    int64_t wait = (int64_t)(attempt->random % (uint64_t)(cap + 1));
    if (wait < attempt->retry_after_ms)
        wait = attempt->retry_after_ms;
    return wait < attempt->left_ms ? wait : -1;
}

int rest_code(int status)
{
    switch (status) {
    case 400:
    case 422: return KP_EINVALID;
    case 401: return KP_EUNAUTHORIZED;
    case 403: return KP_EFORBIDDEN;
    case 404:
    case 410: return KP_ENOTFOUND;
    case 408: return KP_ETIMEOUT;
    case 409:
    case 412: return KP_ECONFLICT;
    case 413: return KP_ETOOLARGE;
    case 429: return KP_ETOOMANY;
    default: return status >= 500 && status < 600 ? KP_EUNAVAILABLE : KP_EINTERNAL;
    }
}
