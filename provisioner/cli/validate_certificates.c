/* Check of the certificates' age. */
#include "provisioner/cli/validate_internal.h"

enum validate_result validate_certificate_age(int64_t not_after_s, int64_t now_s)
{
    if (not_after_s - now_s < VALIDATE_CERTIFICATE_FAIL_S)
        return VALIDATE_FAILED;
    return not_after_s - now_s < VALIDATE_CERTIFICATE_WARN_S ? VALIDATE_WARNING : VALIDATE_OK;
}

void validate_certificates(struct validate *v)
{
    struct cli_certificate_list list = {0};
    struct kp_error error = {0};
    char end[KP_RFC3339_MAX];
    const char *remedy = kp_arena_printf(v->arena, "kprov certs renew %s", v->cluster.name);
    if (cli_certificates(&v->cluster, v->cloud, &v->machines, v->arena, &list, &error) < 0) {
        validate_add(v, "certificates", VALIDATE_FAILED, remedy, "%s", error.message);
        return;
    }
    if (!list.len) {
        validate_add(v, "certificates", VALIDATE_FAILED, remedy, "there are none");
        return;
    }
    const struct cli_certificate *first = &list.items[0];
    enum validate_result result = validate_certificate_age(first->not_after_s, kp_now_s());
    kp_format_rfc3339(end, first->not_after_s, 0, false);
    if (result == VALIDATE_OK && list.problems.len)
        validate_add(v, "certificates", VALIDATE_WARNING, "see that the machine runs", "not all could be read: %s", list.problems.items[0]);
    else
        validate_add(v, "certificates", result, remedy, "of %zu the first ends in %lld days, at %s: %s", list.len,
                     (long long)((first->not_after_s - kp_now_s()) / 86400), end, first->where);
}
