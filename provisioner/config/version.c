/* Kubernetes versions: what this kprov installs, and which may follow which. */
#include "base/version.h"
#include "provisioner/config/config.h"

#define NUMBER_MAX 100000

static int read_number(const char **text, int64_t *ret)
{
    char digits[8];
    size_t len = strspn(*text, "0123456789");
    if (len == 0 || len >= sizeof(digits))
        return KP_EINVALID;
    snprintf(digits, sizeof(digits), "%.*s", (int)len, *text);
    *text += len;
    return kp_parse_i64(digits, ret) < 0 || *ret > NUMBER_MAX ? KP_EINVALID : 0;
}

int config_parse_version(const char *text, struct config_version *ret)
{
    if (!text || *text++ != 'v' || read_number(&text, &ret->major) < 0 || *text++ != '.' || read_number(&text, &ret->minor) < 0 ||
        *text++ != '.' || read_number(&text, &ret->patch) < 0)
        return KP_EINVALID;
    /* "-rc.1" and the like */
    return *text == 0 || (*text == '-' && text[1] && !text[strspn(text, "-.0123456789abcdefghijklmnopqrstuvwxyz")]) ? 0 : KP_EINVALID;
}

static int compare(const struct config_version *a, const struct config_version *b)
{
    int64_t by = a->major != b->major ? a->major - b->major : a->minor != b->minor ? a->minor - b->minor : a->patch - b->patch;
    return by < 0 ? -1 : by > 0;
}

int config_compare_versions(const char *a, const char *b)
{
    struct config_version left = {0}, right = {0};
    return config_parse_version(a, &left) < 0 || config_parse_version(b, &right) < 0 ? 0 : compare(&left, &right);
}

/* https://kubernetes.io/releases/version-skew-policy/ and kubeadm upgrade: control planes may be one minor version apart while
   they are upgraded, and nothing goes back but by a rollback. */
int config_check_upgrade(const char *from, const char *to, struct kp_error *error)
{
    struct config_version a, b;
    if (config_parse_version(from, &a) < 0 || config_parse_version(to, &b) < 0)
        return kp_fail(error, KP_EINVALID, "version \"%s\" or \"%s\" is not of the form v1.36.0", from, to);
    if (compare(&b, &a) < 0)
        return kp_fail(error, KP_EINVALID, "going from %s to %s is a downgrade: kprov rollback cluster returns to what the cluster had before",
                       from, to);
    if (a.major != b.major || b.minor > a.minor + 1)
        return kp_fail(error, KP_EINVALID,
                       "going from %s to %s skips a minor version, which kubeadm's version skew policy forbids: upgrade to v%lld.%lld first, "
                       "with the kprov of that version",
                       from, to, (long long)a.major, (long long)a.minor + 1);
    return 0;
}

int config_settle_version(struct config *config, const char *existing, struct kp_error *error)
{
    if (kp_empty(config->kubernetes_version))
        config->kubernetes_version = existing ? existing : kp_version;
    if (kp_streq(config->kubernetes_version, existing) || kp_streq(config->kubernetes_version, kp_version))
        return 0;
    return kp_fail(error, KP_EINVALID,
                   "spec.kubernetesVersion: \"%s\" cannot be installed: this kprov installs %s; leave the field out, or use the kprov of %s",
                   config->kubernetes_version, kp_version, config->kubernetes_version);
}
