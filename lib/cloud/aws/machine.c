/* Machines: an instance each, made on the interface that holds its address. */
#include "cloud/aws/aws_internal.h"

#include "http/http.h"

#define PENDING_MS 60000 /* that creation waits for an instance to run or to fail */
#define STOP_MS 60000    /* before the plug is pulled */

int aws_user_data(const void *data, size_t len, struct kp_buf *out, struct kp_error *error)
{
    const uint8_t *bytes = data;
    bool zipped = len > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
    KP_AUTO(kp_blob_unref) struct kp_blob *blob = zipped || !len ? NULL : http_gzip(data, len);
    size_t sent = blob ? blob->len : len;
    if (sent > AWS_USER_DATA_MAX)
        return kp_fail(error, KP_ETOOLARGE, "%zu bytes of user data are %zu compressed, and EC2 takes %zu", len, sent, AWS_USER_DATA_MAX);
    kp_base64_encode(out, blob ? (const void *)blob->data : data, sent);
    return 0;
}

/* *ret NULL: none in these states. */
static int find(struct aws *aws, const char *uid, const char *name, int states, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    struct aws_list list;
    *ret = NULL;
    int r = aws_instances(aws, uid, name, NULL, states, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        if (!*ret || strcmp(aws_text(list.items[i], "instanceId"), aws_text(*ret, "instanceId")) < 0)
            *ret = list.items[i];
    return r;
}

static int must_find(struct aws *aws, const char *uid, const char *name, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    int r = find(aws, uid, name, AWS_ALIVE, arena, ret, error);
    return r == 0 && !*ret ? kp_fail(error, KP_ENOTFOUND, "cluster %s has no machine %s in %s", uid, name, aws->region) : r;
}

int aws_machine_get(void *state, const char *uid, const char *name, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct aws *aws = state;
    const struct aws_node *item;
    int r = must_find(aws, uid, name, arena, &item, error);
    if (r == 0)
        aws_to_machine(aws, item, arena, ret);
    return r;
}

static int by_name(const void *a, const void *b)
{
    const struct cloud_machine *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->id, y->id);
}

int aws_machine_list(void *state, const char *uid, struct kp_arena *arena, struct cloud_machine_list *ret, struct kp_error *error)
{
    struct aws *aws = state;
    struct aws_list list;
    int r = aws_instances(aws, uid, NULL, NULL, AWS_ALIVE, arena, &list, error);
    if (r < 0)
        return r;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine, list.len + 1);
    ret->len = list.len;
    for (size_t i = 0; i < list.len; i++)
        aws_to_machine(aws, list.items[i], arena, &ret->items[i]);
    qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

static void fill_form(const struct aws *aws, struct aws_form *form, const struct cloud_machine_spec *spec, const char *ami, const struct aws_interface *interface, const char *user_data)
{
    char created[24];
    snprintf(created, sizeof(created), "%lld", (long long)kp_now_s());
    aws_set(form, "ImageId", ami);
    aws_set(form, "InstanceType", kp_empty(spec->machine_type) ? AWS_MACHINE_TYPE : spec->machine_type);
    aws_set(form, "MinCount", "1");
    aws_set(form, "MaxCount", "1");
    aws_set(form, "NetworkInterface.1.DeviceIndex", "0");
    aws_set(form, "NetworkInterface.1.NetworkInterfaceId", interface->id);
    aws_set(form, "Placement.AvailabilityZone", interface->zone);
    aws_set(form, "UserData", user_data);
    aws_set(form, "InstanceInitiatedShutdownBehavior", "stop");
    /* Version 2 of the metadata service alone; two hops, so that a controller in a pod may ask for the instance's keys. */
    aws_set(form, "MetadataOptions.HttpTokens", "required");
    aws_set(form, "MetadataOptions.HttpPutResponseHopLimit", "2");
    /* The cloud-controller-manager runs on control planes alone: no other machine needs rights. */
    if (aws->instance_profile && kp_streq(spec->role, "control-plane"))
        aws_set(form, "IamInstanceProfile.Name", aws->instance_profile);
    aws_tags(form, "instance", spec->cluster_uid, spec->name);
    aws_tag(form, AWS_TAG_ROLE, kp_empty(spec->role) ? "worker" : spec->role);
    if (!kp_empty(spec->pool))
        aws_tag(form, AWS_TAG_POOL, spec->pool);
    aws_tag(form, AWS_TAG_IMAGE, spec->image);
    aws_tag(form, AWS_TAG_CREATED, created);
    aws_tags(form, "volume", spec->cluster_uid, spec->name);
    aws_token(form);
}

/* "Client.VolumeLimitExceeded" is what the same would be as an error of a call. */
static int fail_ended(const struct aws_node *item, struct kp_error *error)
{
    const char *code = aws_text(item, "stateReason/code"), *dot = strchr(code, '.');
    return kp_fail(error, aws_code(dot ? dot + 1 : code, 400), "instance %s ended before it ran: %s: %s", aws_text(item, "instanceId"), code,
                   aws_text(item, "stateReason/message"));
}

/* A new instance until it runs, has ended, or is pending for too long to wait here; EC2 may not show it at first. */
static int settle(struct aws *aws, const char *id, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    for (int64_t until = kp_mono_ms() + PENDING_MS;; kp_sleep_ms(aws->poll_ms)) {
        AWS_FORM form = {0};
        struct aws_list list = {0};
        struct kp_error why = {0};
        aws_set(&form, "InstanceId.1", id);
        int r = aws_list(aws, AWS_EC2, "DescribeInstances", &form, "reservationSet/item", arena, &list, &why);
        if (r < 0 && r != KP_ENOTFOUND)
            return aws_pass(error, &why);
        const struct aws_node *item = aws_at(list.len ? list.items[0] : NULL, "instancesSet/item");
        const char *state = aws_text(item, "instanceState/name");
        if (kp_streq(state, "terminated") || kp_streq(state, "shutting-down"))
            return fail_ended(item, error);
        if (item && (!kp_streq(state, "pending") || kp_mono_ms() > until)) {
            *ret = item;
            return 0;
        }
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "EC2 does not show instance %s yet", id);
    }
}

static int launch(struct aws *aws, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    KP_AUTO_BUF struct kp_buf user_data = {0};
    struct aws_interface interface;
    const struct aws_node *answer = NULL, *item = NULL;
    const char *ami = NULL;
    int r = aws_image_find(aws, spec->image, arena, &ami, error);
    if (r == 0)
        r = aws_interface_find(aws, spec->cluster_uid, spec->name, arena, &interface, error);
    if (r == 0 && !kp_streq(interface.address, spec->address))
        r = kp_fail(error, KP_EINVALID, "%s is not the address reserved for %s, which is %s", spec->address ? spec->address : "", spec->name, interface.address);
    if (r == 0)
        r = aws_user_data(spec->user_data, spec->user_data_len, &user_data, error);
    if (r < 0)
        return r;
    fill_form(aws, &form, spec, ami, &interface, user_data.data ? user_data.data : "");
    r = aws_do(aws, AWS_EC2, "RunInstances", &form, 0, arena, &answer, error);
    if (r == 0)
        r = settle(aws, aws_text(answer, "instancesSet/item/instanceId"), arena, &item, error);
    if (r == 0)
        aws_to_machine(aws, item, arena, ret);
    return r;
}

int aws_machine_create(void *state, const struct cloud_machine_spec *spec, struct kp_arena *arena, struct cloud_machine *ret, struct kp_error *error)
{
    struct aws *aws = state;
    const struct aws_node *item;
    int r = find(aws, spec->cluster_uid, spec->name, AWS_ALIVE, arena, &item, error);
    if (r < 0)
        return r;
    if (item) {
        aws_to_machine(aws, item, arena, ret);
        return 0;
    }
    /* One of that name that is going still has the interface. */
    r = aws_wait_not_in(aws, spec->cluster_uid, spec->name, NULL, AWS_SHUTTING_DOWN, aws->settle_ms, error);
    return r < 0 ? r : launch(aws, spec, arena, ret, error);
}

static int change(struct aws *aws, const char *action, const char *id, bool force, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "InstanceId.1", id);
    if (force)
        aws_set(&form, "Force", "true");
    return aws_do(aws, AWS_EC2, action, &form, 0, arena, NULL, error);
}

static int power_off(struct aws *aws, const char *uid, const char *id, bool force, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_error why = {0};
    int r = change(aws, "StopInstances", id, force, arena, error);
    if (r < 0)
        return r;
    if (!force) {
        r = aws_wait_not_in(aws, uid, NULL, id, AWS_UNGONE & ~AWS_STOPPED, STOP_MS, &why);
        if (r == 0)
            return 0;
        if (r != KP_EAGAIN)
            return aws_pass(error, &why);
        r = change(aws, "StopInstances", id, true, arena, error);
        if (r < 0)
            return r;
    }
    return aws_wait_not_in(aws, uid, NULL, id, AWS_UNGONE & ~AWS_STOPPED, aws->settle_ms - STOP_MS, error);
}

int aws_machine_power(void *state, const char *uid, const char *name, enum cloud_power_action action, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct aws_node *item;
    int r = must_find(aws, uid, name, arena, &item, error);
    if (r < 0)
        return r;
    const char *id = aws_text(item, "instanceId"), *power = aws_text(item, "instanceState/name");
    if (action != CLOUD_POWER_START)
        return kp_streq(power, "stopped") ? 0 : power_off(aws, uid, id, action == CLOUD_POWER_KILL, arena, error);
    if (kp_streq(power, "stopping"))
        r = aws_wait_not_in(aws, uid, NULL, id, AWS_STOPPING, aws->settle_ms / 2, error);
    if (r == 0 && !kp_streq(power, "running") && !kp_streq(power, "pending"))
        r = change(aws, "StartInstances", id, false, arena, error);
    return r < 0 ? r : aws_wait_not_in(aws, uid, NULL, id, AWS_UNGONE & ~AWS_RUNNING, aws->settle_ms / 2, error);
}

int aws_machine_delete(void *state, const char *uid, const char *name, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    AWS_FORM form = {0};
    struct aws_list list;
    int r = aws_instances(aws, uid, name, NULL, AWS_UNGONE, arena, &list, error);
    if (r < 0 || list.len == 0)
        return r;
    for (size_t i = 0; i < list.len; i++)
        aws_set_at(&form, aws_text(list.items[i], "instanceId"), "InstanceId.%zu", i + 1);
    r = aws_do(aws, AWS_EC2, "TerminateInstances", &form, 0, arena, NULL, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    return aws_wait_not_in(aws, uid, name, NULL, AWS_UNGONE, aws->settle_ms, error);
}

int aws_machine_console(void *state, const char *uid, const char *name, struct kp_buf *out, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    AWS_FORM form = {0};
    const struct aws_node *item, *answer = NULL;
    int r = must_find(aws, uid, name, arena, &item, error);
    if (r < 0)
        return r;
    aws_set(&form, "InstanceId", aws_text(item, "instanceId"));
    r = aws_do(aws, AWS_EC2, "GetConsoleOutput", &form, 0, arena, &answer, error);
    const char *text = r < 0 ? "" : aws_text(answer, "output");
    KP_AUTO_BUF struct kp_buf packed = {0}; /* AWS breaks its base64 into lines */
    for (; *text; text++)
        if (*text != '\n' && *text != '\r' && *text != ' ')
            kp_buf_putc(&packed, *text);
    if (r == 0 && packed.len && kp_base64_decode(out, packed.data, packed.len) < 0)
        r = kp_fail(error, KP_ECORRUPT, "the console of %s is no base64", name);
    return r;
}
