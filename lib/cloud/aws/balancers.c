/* Load balancers and target groups of ELB: their names, their tags, what is said of them. */
#include "cloud/aws/aws_internal.h"

#include "tls/tls.h"

#define LOOKS_MAX 5

const char *aws_elb_name(const char *uid, const char *name, const char *more, struct kp_arena *arena)
{
    char hex[TLS_SHA256_HEX_BYTES];
    const char *text = kp_arena_printf(arena, "%s/%s/%s", uid, name, more);
    tls_sha256_hex(text, strlen(text), hex);
    return kp_arena_printf(arena, "kp-%.28s", hex);
}

static struct aws_tagged *with_arn(struct aws_tagged *all, size_t n, const char *arn)
{
    for (size_t i = 0; i < n; i++)
        if (kp_streq(all[i].arn, arn))
            return &all[i];
    return NULL;
}

static int read_tags(struct aws *aws, struct aws_tagged *all, size_t n, struct kp_arena *arena, struct kp_error *error)
{
    for (size_t at = 0; at < n; at += AWS_TAGS_BATCH) {
        AWS_FORM form = {0};
        const struct aws_node *answer;
        for (size_t i = at; i < n && i < at + AWS_TAGS_BATCH; i++)
            aws_set_at(&form, all[i].arn, "ResourceArns.member.%zu", i - at + 1);
        int r = aws_do(aws, AWS_ELB, "DescribeTags", &form, 0, arena, &answer, error);
        if (r < 0)
            return r;
        for (const struct aws_node *item = aws_at(answer, "TagDescriptions/member"); item; item = aws_again(item)) {
            struct aws_tagged *tagged = with_arn(all, n, aws_text(item, "ResourceArn"));
            if (!tagged)
                continue;
            tagged->uid = aws_tag_of(item, AWS_TAG_CLUSTER);
            tagged->name = aws_tag_of(item, AWS_TAG_NAME);
        }
    }
    return 0;
}

static int list_once(struct aws *aws, bool groups, const char *uid, struct kp_arena *arena, struct aws_tagged **ret, size_t *ret_n, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    int r = aws_list(aws, AWS_ELB, groups ? "DescribeTargetGroups" : "DescribeLoadBalancers", &form, groups ? "TargetGroups/member" : "LoadBalancers/member", arena,
                     &list, error);
    if (r < 0)
        return r;
    struct aws_tagged *all = KP_NEW_ARRAY(arena, struct aws_tagged, list.len + 1);
    for (size_t i = 0; i < list.len; i++)
        all[i] = (struct aws_tagged){.item = list.items[i], .arn = aws_text(list.items[i], groups ? "TargetGroupArn" : "LoadBalancerArn"), .uid = "", .name = ""};
    r = read_tags(aws, all, list.len, arena, error);
    *ret = all;
    *ret_n = 0;
    for (size_t i = 0; r == 0 && i < list.len; i++)
        if (uid ? kp_streq(all[i].uid, uid) : *all[i].uid)
            all[(*ret_n)++] = all[i];
    return r;
}

/* One that goes between listing and asking for its tags makes the whole question fail: it is asked again. */
int aws_tagged_list(struct aws *aws, bool groups, const char *uid, struct kp_arena *arena, struct aws_tagged **ret, size_t *ret_n, struct kp_error *error)
{
    struct kp_error why = {0};
    int r = KP_ENOTFOUND;
    for (int look = 0; look < LOOKS_MAX && r == KP_ENOTFOUND; look++)
        r = list_once(aws, groups, uid, arena, ret, ret_n, &why);
    if (r == 0)
        return 0;
    return kp_fail(error, r == KP_ENOTFOUND ? KP_EAGAIN : r, "%s", why.message);
}

/* By its name, which is made of the cluster's uid; but whose it is the tag says. *ret NULL: none. */
int aws_balancer_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct kp_error why = {0};
    const struct aws_node *answer;
    *ret = NULL;
    const char *elb_name = aws_elb_name(uid, name, "", arena);
    aws_set(&form, "Names.member.1", elb_name);
    int r = aws_do(aws, AWS_ELB, "DescribeLoadBalancers", &form, 0, arena, &answer, &why);
    const struct aws_node *item = r < 0 ? NULL : aws_at(answer, "LoadBalancers/member");
    if (r == KP_ENOTFOUND || (r == 0 && !item))
        return 0;
    if (r < 0)
        return aws_pass(error, &why);
    struct aws_tagged tagged = {.item = item, .arn = aws_text(item, "LoadBalancerArn"), .uid = "", .name = ""};
    r = read_tags(aws, &tagged, 1, arena, &why);
    if (r == KP_ENOTFOUND)
        return 0;
    if (r < 0)
        return aws_pass(error, &why);
    if (!kp_streq(tagged.uid, uid))
        return kp_fail(error, KP_ECONFLICT, "load balancer %s in %s has the name of the cluster's %s and not its tag: rename or remove it", elb_name, aws->region, name);
    *ret = item;
    return 0;
}

void aws_to_balancer(const struct aws_node *item, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret)
{
    const char *state = aws_text(item, "State/Code"), *reason = aws_text(item, "State/Reason");
    bool failed = kp_streq(state, "failed");
    *ret = (struct cloud_balancer){.id = aws_text(item, "LoadBalancerArn"), .name = kp_arena_strdup(arena, name), .cluster_uid = kp_arena_strdup(arena, uid),
                                   .address = "", .host_name = aws_text(item, "DNSName"),
                                   .state = failed ? CLOUD_BALANCER_FAILED : kp_streq(state, "provisioning") ? CLOUD_BALANCER_PENDING : CLOUD_BALANCER_ACTIVE,
                                   .problem = failed ? *reason ? reason : "AWS could not make it and does not say why" : ""};
}

int aws_balancer_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_balancer *ret, struct kp_error *error)
{
    struct aws *aws = state;
    const struct aws_node *item;
    int r = aws_balancer_find(aws, uid, name, arena, &item, error);
    if (r == 0 && !item)
        r = kp_fail(error, KP_ENOTFOUND, "cluster %s has no load balancer %s in %s", uid, name, aws->region);
    if (r == 0)
        aws_to_balancer(item, uid, name, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct cloud_balancer *)a)->name, ((const struct cloud_balancer *)b)->name);
}

int aws_balancer_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_balancer_list *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_tagged *tagged;
    size_t n;
    int r = aws_tagged_list(aws, false, uid, arena, &tagged, &n, error);
    if (r < 0)
        return r;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_balancer, n + 1);
    ret->len = n;
    for (size_t i = 0; i < n; i++)
        aws_to_balancer(tagged[i].item, uid, tagged[i].name, arena, &ret->items[i]);
    qsort(ret->items, n, sizeof(*ret->items), by_name);
    return 0;
}
