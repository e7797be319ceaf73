/* What the API's errors and rate-limit headers mean: pure. */
#include "cloud/hetzner/hetzner_internal.h"

#define HOUR_MS 3600000

/* The codes of the published API description. What is not listed counts by its status. */
static const struct {
    const char *code;
    int means;
    const char *remedy;
} codes[] = {
    {"unauthorized", KP_EUNAUTHORIZED, "check HCLOUD_TOKEN, or the file of spec.hetzner.credentialsFile"},
    {"forbidden", KP_EFORBIDDEN, NULL},
    {"token_readonly", KP_EFORBIDDEN, "make a token that may read and write"},
    {"not_found", KP_ENOTFOUND, NULL},
    {"uniqueness_error", KP_EEXISTS, NULL},
    {"source_port_already_used", KP_EEXISTS, NULL},
    {"target_already_defined", KP_EEXISTS, NULL},
    {"server_already_attached", KP_EEXISTS, NULL},
    {"server_already_added", KP_EEXISTS, NULL},
    {"load_balancer_already_attached", KP_EEXISTS, NULL},
    {"conflict", KP_EAGAIN, NULL}, /* another action is at it: nothing was done */
    {"locked", KP_EAGAIN, NULL},
    {"protected", KP_ECONFLICT, "it is protected against deletion: take that away in Hetzner's console"},
    {"resource_in_use", KP_ECONFLICT, NULL},
    {"server_not_stopped", KP_ECONFLICT, NULL},
    {"primary_ip_assigned", KP_ECONFLICT, NULL},
    {"primary_ip_already_assigned", KP_ECONFLICT, NULL},
    {"ip_not_available", KP_ECONFLICT, NULL},
    {"networks_overlap", KP_ECONFLICT, NULL},
    {"resource_limit_exceeded", KP_EQUOTA, "ask for a higher limit in Hetzner's console"},
    {"no_subnet_available", KP_EQUOTA, NULL},
    {"rate_limit_exceeded", KP_ETOOMANY, NULL},
    {"invalid_input", KP_EINVALID, NULL},
    {"invalid_server_type", KP_EINVALID, NULL},
    {"invalid_load_balancer_type", KP_EINVALID, NULL},
    {"server_not_attached_to_network", KP_EINVALID, NULL},
    {"json_error", KP_EINTERNAL, NULL},
    {"unsupported_error", KP_ENOTSUPPORTED, NULL},
    {"deprecated_api_endpoint", KP_ENOTSUPPORTED, NULL},
    {"resource_unavailable", KP_EUNAVAILABLE, "none is free there now: try again later, or another machine type or location"},
    {"placement_error", KP_EUNAVAILABLE, "no physical server is free that the others are not on: try again later, or another location"},
    {"maintenance", KP_EUNAVAILABLE, NULL},
    {"unavailable", KP_EUNAVAILABLE, NULL},
    {"server_error", KP_EUNAVAILABLE, NULL},
    {"service_error", KP_EUNAVAILABLE, NULL},
    {"bad_gateway", KP_EUNAVAILABLE, NULL},
    {"timeout", KP_EUNAVAILABLE, NULL},
    {"resource_locked", KP_EFORBIDDEN, "ask Hetzner's support"},
};

int hz_code(int status, const char *code)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(codes); i++)
        if (kp_streq(codes[i].code, code))
            return codes[i].means;
    /* A proxy on the way, or a wrong endpoint: nobody said that the resource does not exist. */
    return status == 404 || status == 410 ? KP_EUNAVAILABLE : rest_code(status);
}

void hz_error_text(struct kp_buf *out, const json_t *answer)
{
    const char *code = rest_json_text(answer, "error/code");
    const json_t *fields = rest_json_at(answer, "error/details/fields");
    if (!*code) {
        kp_buf_printf(out, "not an answer of Hetzner's API: check HCLOUD_ENDPOINT");
        return;
    }
    kp_buf_printf(out, "%s (%s)", rest_json_text(answer, "error/message"), code);
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        kp_buf_printf(out, "; %s: %s", rest_json_text(field, "name"), rest_json_text(field, "messages/0"));
    }
    for (size_t i = 0; i < KP_ARRAY_LEN(codes); i++)
        if (kp_streq(codes[i].code, code) && codes[i].remedy)
            kp_buf_printf(out, ": %s", codes[i].remedy);
}

bool hz_rate_read(const char *limit, const char *remaining, const char *reset, struct hz_rate *ret)
{
    struct hz_rate rate = {0};
    if (!limit || !remaining || !reset || kp_parse_i64(limit, &rate.limit) < 0 || kp_parse_i64(remaining, &rate.remaining) < 0 ||
        kp_parse_i64(reset, &rate.reset_s) < 0 || rate.limit < 1 || rate.limit > HOUR_MS || rate.remaining < 0)
        return false;
    *ret = rate;
    return true;
}

int64_t hz_retry_after_ms(const struct hz_rate *rate, int64_t now_s)
{
    int64_t missing = rate->limit - rate->remaining;
    if (rate->limit < 1 || missing < 1 || rate->reset_s <= now_s || rate->reset_s - now_s > 24 * 3600)
        return 0;
    return KP_MAX((rate->reset_s - now_s) * 1000 / missing, (int64_t)1);
}

int64_t hz_pace_ms(const struct hz_rate *rate, int64_t wanted_ms)
{
    if (rate->limit < 1 || rate->remaining > rate->limit / 10)
        return wanted_ms;
    return KP_MAX(wanted_ms, 4 * (int64_t)HOUR_MS / rate->limit); /* a quarter of what comes in stays for others */
}
