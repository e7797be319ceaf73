/* What would stand in a new cluster's way, found before anything is made. */
#include "cloud/aws/aws_internal.h"

/* Who asks; the keys are right when this succeeds. */
static int check_keys(struct aws *aws, struct kp_arena *arena, const char **ret_arn, struct kp_error *error)
{
    const struct aws_node *answer;
    int r = aws_do(aws, AWS_STS, "GetCallerIdentity", NULL, 0, arena, &answer, error);
    *ret_arn = r < 0 ? "" : aws_text(answer, "Arn");
    return r;
}

/* EC2 answers a dry run with an error: of this code when it would have been done. */
static int check_may(struct aws *aws, const char *arn, const char *action, struct aws_form *form, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error why = {0};
    aws_set(form, "DryRun", "true");
    int r = aws_do(aws, AWS_EC2, action, form, 0, arena, NULL, &why);
    if (r == 0 || strstr(why.message, "DryRunOperation"))
        return 0;
    if (r == KP_EFORBIDDEN)
        return kp_fail(error, r, "%s may not %s in %s: give it the policy of docs/aws.md (%s)", arn, action, aws->region, why.message);
    return aws_pass(error, &why);
}

/* One that needs no other thing to be there stands for all. */
static int check_permissions(struct aws *aws, const struct cloud_wish *wish, const char *arn, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    return kp_empty(wish->existing) ? check_may(aws, arn, "CreateInternetGateway", &form, arena, error) : 0;
}

static int check_zones(struct aws *aws, const struct cloud_wish *wish, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings zones = {0};
    KP_AUTO_BUF struct kp_buf names = {0};
    int r = aws_zones(aws, arena, &zones, error);
    for (size_t i = 0; i < zones.len; i++)
        kp_buf_printf(&names, "%s%s", i ? " " : "", zones.items[i]);
    for (const char *at = kp_empty(wish->zones) ? "" : wish->zones; r == 0 && *at; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        bool known = len == 0;
        for (size_t i = 0; i < zones.len; i++)
            known |= strlen(zones.items[i]) == len && memcmp(zones.items[i], at, len) == 0;
        if (!known)
            r = kp_fail(error, KP_EINVALID, "there is no zone \"%.*s\" in %s: there are %s", (int)len, at, aws->region, names.data ? names.data : "none");
        at += len;
    }
    kp_strings_done(&zones);
    return r;
}

static int check_types(struct aws *aws, const struct cloud_wish *wish, struct kp_error *error)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < KP_MAX(wish->n_machines, (size_t)1); i++) {
        const char *type = wish->machine_types && i < wish->n_machines && !kp_empty(wish->machine_types[i]) ? wish->machine_types[i] : AWS_MACHINE_TYPE;
        bool seen = false;
        for (size_t j = 0; j < i; j++)
            seen |= wish->machine_types && kp_streq(wish->machine_types[j], wish->machine_types[i]);
        if (!seen && (i == 0 || wish->machine_types))
            r = aws_check_type(aws, type, error);
    }
    return r;
}

/* EC2 would say so of the first control plane, when the network is made. */
static int check_instance_profile(struct aws *aws, const char *arn, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct kp_error why = {0};
    const struct aws_node *answer = NULL;
    if (!aws->instance_profile)
        return 0;
    aws_set(&form, "InstanceProfileName", aws->instance_profile);
    int r = aws_do(aws, AWS_IAM, "GetInstanceProfile", &form, 0, arena, &answer, &why);
    if (r == KP_ENOTFOUND)
        return kp_fail(error, KP_EINVALID, "spec.aws.instanceProfile: the account has no instance profile \"%s\": make it, with a role that has the rights of docs/aws.md",
                       aws->instance_profile);
    if (r == KP_EFORBIDDEN)
        return kp_fail(error, r, "%s may not look at the instance profile %s: give it iam:GetInstanceProfile and iam:PassRole (%s)", arn, aws->instance_profile, why.message);
    if (r < 0)
        return aws_pass(error, &why);
    if (!aws_at(answer, "InstanceProfile/Roles/member"))
        return kp_fail(error, KP_EINVALID, "spec.aws.instanceProfile: \"%s\" has no role, and its instances no rights: add one to it", aws->instance_profile);
    return 0;
}

int aws_check(void *state, const struct cloud_wish *wish, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *arn = "";
    int r = kp_empty(wish->cidr) || !kp_empty(wish->existing) ? 0 : aws_check_cidr(wish->cidr, error);
    if (r == 0)
        r = check_keys(aws, arena, &arn, error);
    if (r == 0)
        r = check_instance_profile(aws, arn, arena, error);
    if (r == 0)
        r = check_zones(aws, wish, arena, error);
    if (r == 0)
        r = check_types(aws, wish, error);
    return r < 0 ? r : check_permissions(aws, wish, arn, arena, error);
}
