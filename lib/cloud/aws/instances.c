/* EC2's instances as machines: found by tag and state, waited for. */
#include "cloud/aws/aws_internal.h"

static const struct {
    int bit;
    const char *name;
} states_of[] = {{AWS_PENDING, "pending"}, {AWS_RUNNING, "running"}, {AWS_STOPPING, "stopping"}, {AWS_STOPPED, "stopped"}, {AWS_SHUTTING_DOWN, "shutting-down"}};

static void filter_states(struct aws_form *form, int states)
{
    int n = 0;
    for (size_t i = 0; i < KP_ARRAY_LEN(states_of); i++)
        if (states & states_of[i].bit) {
            if (n++ == 0)
                aws_filter(form, "instance-state-name", states_of[i].name);
            else
                aws_filter_more(form, n, states_of[i].name);
        }
}

static size_t count(const struct aws_list *reservations)
{
    size_t n = 0;
    for (size_t i = 0; i < reservations->len; i++)
        for (const struct aws_node *item = aws_at(reservations->items[i], "instancesSet/item"); item; item = aws_again(item))
            n++;
    return n;
}

int aws_instances(struct aws *aws, const char *uid, const char *name, const char *id, int states, struct kp_arena *arena, struct aws_list *ret,
                  struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list reservations;
    *ret = (struct aws_list){0};
    aws_filter(&form, "tag:" AWS_TAG_CLUSTER, uid);
    if (name)
        aws_filter(&form, "tag:" AWS_TAG_NAME, name);
    if (id)
        aws_filter(&form, "instance-id", id);
    filter_states(&form, states);
    int r = aws_list(aws, AWS_EC2, "DescribeInstances", &form, "reservationSet/item", arena, &reservations, error);
    if (r < 0)
        return r;
    ret->items = KP_NEW_ARRAY(arena, const struct aws_node *, count(&reservations) + 1);
    for (size_t i = 0; i < reservations.len; i++)
        for (const struct aws_node *item = aws_at(reservations.items[i], "instancesSet/item"); item; item = aws_again(item))
            ret->items[ret->len++] = item;
    return 0;
}

/* The launch time of an instance is that of its last start: when it was made stands in a tag. */
void aws_to_machine(const struct aws *aws, const struct aws_node *item, struct kp_arena *arena, struct cloud_machine *ret)
{
    const char *id = aws_text(item, "instanceId"), *zone = aws_text(item, "placement/availabilityZone"), *state = aws_text(item, "instanceState/name");
    const char *created = aws_tag_of(item, AWS_TAG_CREATED);
    *ret = (struct cloud_machine){
        .id = id, .provider_id = kp_arena_printf(arena, "aws:///%s/%s", zone, id), .name = aws_tag_of(item, AWS_TAG_NAME),
        .cluster_uid = aws_tag_of(item, AWS_TAG_CLUSTER), .role = aws_tag_of(item, AWS_TAG_ROLE), .pool = aws_tag_of(item, AWS_TAG_POOL),
        .machine_type = aws_text(item, "instanceType"), .image = aws_tag_of(item, AWS_TAG_IMAGE), .address = aws_text(item, "privateIpAddress"),
        .region = kp_arena_strdup(arena, aws->region), .zone = zone, .public_address = aws_text(item, "ipAddress"),
        .power = kp_streq(state, "running") || kp_streq(state, "pending") ? CLOUD_POWER_ON : CLOUD_POWER_OFF};
    if (kp_parse_i64(created, &ret->created_s) < 0)
        ret->created_s = aws_parse_time(aws_text(item, "launchTime"));
}

int aws_wait_not_in(struct aws *aws, const char *uid, const char *name, const char *id, int states, int64_t settle_ms, struct kp_error *error)
{
    for (int64_t until = kp_mono_ms() + settle_ms;; kp_sleep_ms(aws->poll_ms)) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        struct aws_list list;
        int r = aws_instances(aws, uid, name, id, states, arena, &list, error);
        if (r < 0 || list.len == 0)
            return r;
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "%zu instances of cluster %s are still on their way, %s (%s) among them", list.len, uid,
                           aws_tag_of(list.items[0], AWS_TAG_NAME), aws_text(list.items[0], "instanceState/name"));
    }
}
