/* Security groups of a cluster: found by tag, their rules compared in full. */
#include "cloud/aws/aws_internal.h"

#define RULES_MAX 1000

int aws_group_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    aws_filter(&form, "tag:" AWS_TAG_NAME, name);
    int r = aws_list(aws, AWS_EC2, "DescribeSecurityGroups", &form, "securityGroupInfo/item", arena, &list, error);
    if (r == 0)
        *ret = list.len ? list.items[0] : NULL;
    return r;
}

int aws_group_ensure(struct aws *aws, const char *uid, const char *vpc, const char *name, struct kp_arena *arena, const struct aws_node **ret,
                     struct kp_error *error)
{
    AWS_FORM form = {0};
    int r = aws_group_find(aws, uid, name, arena, ret, error);
    if (r < 0 || *ret)
        return r;
    aws_set(&form, "GroupName", kp_arena_printf(arena, "kprov-%s-%s", uid, name)); /* unique in the VPC: there will not be two */
    aws_set(&form, "GroupDescription", kp_arena_printf(arena, "kprov cluster %s: %s", uid, name));
    aws_set(&form, "VpcId", vpc);
    aws_tags(&form, "security-group", uid, name);
    r = aws_do(aws, AWS_EC2, "CreateSecurityGroup", &form, 0, arena, NULL, error);
    for (int64_t until = kp_mono_ms() + 20000; r == 0 || r == KP_EEXISTS; kp_sleep_ms(aws->poll_ms)) {
        r = aws_group_find(aws, uid, name, arena, ret, error);
        if (r < 0 || *ret)
            return r;
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "EC2 does not show security group %s yet", name);
    }
    return r;
}

static bool same(const struct aws_rule *a, const struct aws_rule *b)
{
    bool all = kp_streq(a->protocol, "-1");
    return kp_streq(a->protocol, b->protocol) && (all || (a->from == b->from && a->to == b->to)) && kp_streq(a->cidr, b->cidr) && kp_streq(a->group, b->group);
}

static bool has(const struct aws_rule *rules, size_t n, const struct aws_rule *rule)
{
    for (size_t i = 0; i < n; i++)
        if (same(&rules[i], rule))
            return true;
    return false;
}

/* Every source of every entry as a rule of its own. */
static size_t read_rules(const struct aws_node *group, struct aws_rule *rules)
{
    size_t n = 0;
    for (const struct aws_node *item = aws_at(group, "ipPermissions/item"); item; item = aws_again(item)) {
        struct aws_rule rule = {.protocol = aws_text(item, "ipProtocol"), .from = (int)aws_int(item, "fromPort"), .to = (int)aws_int(item, "toPort")};
        for (const struct aws_node *from = aws_at(item, "ipRanges/item"); from && n < RULES_MAX; from = aws_again(from)) {
            rules[n] = rule;
            rules[n++].cidr = aws_text(from, "cidrIp");
        }
        for (const struct aws_node *from = aws_at(item, "groups/item"); from && n < RULES_MAX; from = aws_again(from)) {
            rules[n] = rule;
            rules[n++].group = aws_text(from, "groupId");
        }
    }
    return n;
}

/* Those of `rules` that are not in `others`, in one call. */
static int change(struct aws *aws, const char *action, const char *group, const struct aws_rule *rules, size_t n, const struct aws_rule *others, size_t n_others,
                  struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct kp_error why = {0};
    int k = 0;
    aws_set(&form, "GroupId", group);
    for (size_t i = 0; i < n; i++) {
        if (has(others, n_others, &rules[i]))
            continue;
        k++;
        aws_set_at(&form, rules[i].protocol, "IpPermissions.%d.IpProtocol", k);
        if (!kp_streq(rules[i].protocol, "-1")) {
            aws_set_at(&form, kp_arena_printf(arena, "%d", rules[i].from), "IpPermissions.%d.FromPort", k);
            aws_set_at(&form, kp_arena_printf(arena, "%d", rules[i].to), "IpPermissions.%d.ToPort", k);
        }
        if (rules[i].cidr)
            aws_set_at(&form, rules[i].cidr, "IpPermissions.%d.IpRanges.1.CidrIp", k);
        else
            aws_set_at(&form, rules[i].group, "IpPermissions.%d.Groups.1.GroupId", k);
    }
    if (!k)
        return 0;
    int r = aws_do(aws, AWS_EC2, action, &form, 0, arena, NULL, &why);
    if (r == 0 || r == KP_EEXISTS || r == KP_ENOTFOUND) /* the answer of a first attempt was lost */
        return 0;
    return aws_pass(error, &why);
}

int aws_rules_ensure(struct aws *aws, const struct aws_node *group, const struct aws_rule *rules, size_t n, struct kp_arena *arena, struct kp_error *error)
{
    const char *id = aws_text(group, "groupId");
    struct aws_rule *there = KP_NEW_ARRAY(arena, struct aws_rule, RULES_MAX);
    size_t n_there = read_rules(group, there);
    int r = change(aws, "AuthorizeSecurityGroupIngress", id, rules, n, there, n_there, arena, error);
    return r < 0 ? r : change(aws, "RevokeSecurityGroupIngress", id, there, n_there, rules, n, arena, error);
}
