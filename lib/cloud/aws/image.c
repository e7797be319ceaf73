/* Node images on AWS are AMIs: found by id, by the tag that names the node image in them, or by name; made of a disk when there is none. */
#include "cloud/aws/aws_internal.h"

#define VOLUME_GIB "20" /* of a machine: what the image leaves of it is for data */
#define SHOWN_MS 120000 /* that a new AMI may take to be seen */
#define WHOLE_MS 1200000 /* that EC2 may take for a snapshot whose blocks are all there */

static int ask(struct aws *aws, const char *filter, const char *value, bool own, struct kp_arena *arena, const char **ret_ami, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    const char *newest = "";
    if (own)
        aws_set(&form, "Owner.1", "self");
    aws_filter(&form, filter, value);
    aws_filter(&form, "state", "available");
    int r = aws_list(aws, AWS_EC2, "DescribeImages", &form, "imagesSet/item", arena, &list, error);
    *ret_ami = NULL;
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *created = aws_text(list.items[i], "creationDate");
        if (*ret_ami && strcmp(created, newest) <= 0)
            continue;
        newest = created;
        *ret_ami = aws_text(list.items[i], "imageId");
    }
    return r;
}

/* Ids name any image that may be used; tags and names only those of the account itself, where nobody else can put one. */
int aws_image_find(struct aws *aws, const char *image, struct kp_arena *arena, const char **ret_ami, struct kp_error *error)
{
    struct kp_error why = {0};
    bool by_id = kp_starts_with(image, "ami-");
    int r = ask(aws, by_id ? "image-id" : "tag:" AWS_TAG_IMAGE, image, !by_id, arena, ret_ami, &why);
    if (r == 0 && !*ret_ami && !by_id)
        r = ask(aws, "name", image, true, arena, ret_ami, &why);
    if (r < 0 && r != KP_EINVALID && r != KP_ENOTFOUND) /* an id that cannot be one, or is none */
        return aws_pass(error, &why);
    if (r == 0 && *ret_ami)
        return 0;
    if (by_id)
        return kp_fail(error, KP_ENOTFOUND, "there is no AMI %s in %s, or this account may not use it", image, aws->region);
    return kp_fail(error, KP_ENOTFOUND, "no AMI of this account in %s carries the tag " AWS_TAG_IMAGE "=%s or that name (docs/aws.md, \"The node image\")",
                   aws->region, image);
}

/* ---- the snapshot of its disk. The tag kprov-stage=new goes when it is whole. */
static int find_snapshots(struct aws *aws, const char *image, struct kp_arena *arena, struct aws_list *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "Owner.1", "self");
    if (image)
        aws_filter(&form, "tag:" AWS_TAG_IMAGE, image);
    else
        aws_filter(&form, "tag-key", AWS_TAG_IMAGE);
    return aws_list(aws, AWS_EC2, "DescribeSnapshots", &form, "snapshotSet/item", arena, ret, error);
}

/* What an earlier run left: one that is whole serves, one that is still open is gone on with, others can never become whole. */
static int take_up(struct aws *aws, const char *image, struct kp_arena *arena, const char **ret_snapshot, bool *ret_whole, struct kp_error *error)
{
    struct aws_list list;
    *ret_snapshot = NULL;
    *ret_whole = false;
    int r = find_snapshots(aws, image, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *id = aws_text(list.items[i], "snapshotId"), *status = aws_text(list.items[i], "status");
        bool completed = kp_streq(status, "completed"), whole = completed && !*aws_tag_of(list.items[i], AWS_TAG_STAGE);
        if (whole || (kp_streq(status, "pending") && !*ret_whole))
            *ret_snapshot = id;
        else if (!kp_streq(status, "pending"))
            r = aws_simple(aws, AWS_EC2, "DeleteSnapshot", "SnapshotId", id, error);
        *ret_whole = *ret_whole || whole;
    }
    return r;
}

static int wait_whole(struct aws *aws, const char *snapshot, struct kp_arena *arena, struct kp_error *error)
{
    for (int64_t until = kp_mono_ms() + WHOLE_MS;; kp_sleep_ms(aws->poll_ms)) {
        AWS_FORM form = {0};
        struct aws_list list;
        aws_set(&form, "SnapshotId.1", snapshot);
        int r = aws_list(aws, AWS_EC2, "DescribeSnapshots", &form, "snapshotSet/item", arena, &list, error);
        const char *status = r == 0 && list.len ? aws_text(list.items[0], "status") : "";
        if (r < 0 || kp_streq(status, "completed"))
            return r;
        if (kp_streq(status, "error"))
            return kp_fail(error, KP_EUNAVAILABLE, "EC2 could not complete snapshot %s (%s): the same command makes another", snapshot,
                           aws_text(list.items[0], "statusMessage"));
        if (kp_mono_ms() > until)
            return kp_fail(error, KP_EAGAIN, "EC2 has not completed snapshot %s yet", snapshot);
    }
}

static int mark_whole(struct aws *aws, const char *snapshot, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "ResourceId.1", snapshot);
    aws_set(&form, "Tag.1.Key", AWS_TAG_STAGE);
    return aws_do(aws, AWS_EC2, "DeleteTags", &form, 0, arena, NULL, error);
}

static int snapshot_ensure(struct aws *aws, const char *image, const char *path, struct kp_arena *arena, const char **ret_snapshot, struct kp_error *error)
{
    bool whole = false;
    int r = take_up(aws, image, arena, ret_snapshot, &whole, error);
    if (r < 0 || whole)
        return r;
    if (!*ret_snapshot)
        r = aws_snapshot_start(aws, image, path, arena, ret_snapshot, error);
    if (r == 0)
        r = aws_snapshot_fill(aws, *ret_snapshot, path, arena, error);
    if (r == 0)
        r = wait_whole(aws, *ret_snapshot, arena, error);
    return r < 0 ? r : mark_whole(aws, *ret_snapshot, arena, error);
}

/* ---- the AMI of a snapshot: its name, which an account has once in a region, keeps a lost answer from making two */
static int register_image(struct aws *aws, const char *image, const char *snapshot, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    const struct aws_node *answer = NULL;
    struct kp_error why = {0};
    aws_set(&form, "Name", image);
    aws_set(&form, "Description", "kprov node image");
    aws_set(&form, "Architecture", "x86_64");
    aws_set(&form, "VirtualizationType", "hvm");
    aws_set(&form, "BootMode", "uefi-preferred");
    aws_set(&form, "EnaSupport", "true");
    aws_set(&form, "ImdsSupport", "v2.0");
    aws_set(&form, "RootDeviceName", "/dev/xvda");
    aws_set(&form, "BlockDeviceMapping.1.DeviceName", "/dev/xvda");
    aws_set(&form, "BlockDeviceMapping.1.Ebs.SnapshotId", snapshot);
    aws_set(&form, "BlockDeviceMapping.1.Ebs.VolumeSize", VOLUME_GIB);
    aws_set(&form, "BlockDeviceMapping.1.Ebs.VolumeType", "gp3");
    aws_set(&form, "BlockDeviceMapping.1.Ebs.DeleteOnTermination", "true");
    int r = aws_do(aws, AWS_EC2, "RegisterImage", &form, AWS_ONCE, arena, &answer, &why);
    return r == 0 || r == KP_EEXISTS ? 0 : aws_pass(error, &why);
}

static int tag_image(struct aws *aws, const char *ami, const char *image, struct kp_arena *arena, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "ResourceId.1", ami);
    aws_set(&form, "Tag.1.Key", AWS_TAG_IMAGE);
    aws_set(&form, "Tag.1.Value", image);
    return aws_do(aws, AWS_EC2, "CreateTags", &form, 0, arena, NULL, error);
}

static int make_image(struct aws *aws, const char *image, const char *path, struct kp_arena *arena, struct kp_error *error)
{
    const char *snapshot = NULL, *ami = NULL;
    int r = snapshot_ensure(aws, image, path, arena, &snapshot, error);
    if (r == 0)
        r = register_image(aws, image, snapshot, arena, error);
    for (int64_t until = kp_mono_ms() + SHOWN_MS; r == 0 && !ami; kp_sleep_ms(ami ? 0 : aws->poll_ms)) {
        struct kp_error why = {0};
        r = aws_image_find(aws, image, arena, &ami, &why);
        if (r == KP_ENOTFOUND && kp_mono_ms() < until)
            r = 0, ami = NULL;
        else if (r < 0)
            aws_pass(error, &why);
    }
    return r < 0 ? r : tag_image(aws, ami, image, arena, error);
}

int aws_image_ensure(void *state, const char *image, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *ami, *path = kp_arena_printf(arena, "%s/%s/disk/disk.raw", aws->image_dir, image);
    struct kp_error why = {0};
    pthread_mutex_lock(&aws->making);
    int r = aws_image_find(aws, image, arena, &ami, &why);
    if (r == KP_ENOTFOUND && !kp_starts_with(image, "ami-") && kp_path_exists(path)) {
        why = (struct kp_error){0};
        r = make_image(aws, image, path, arena, &why);
    } else if (r == KP_ENOTFOUND && !kp_starts_with(image, "ami-")) {
        kp_fail(&why, KP_ENOTFOUND, "no AMI of this account in %s carries the tag " AWS_TAG_IMAGE "=%s or that name, and there is no %s to make one of: "
                "kprov image build --disk", aws->region, image, path);
    }
    pthread_mutex_unlock(&aws->making);
    return r < 0 ? aws_pass(error, &why) : 0;
}

/* ---- pruning */
static bool is_in(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (kp_streq(*list, name))
            return true;
    return false;
}

static int remove_image(struct aws *aws, const struct aws_node *item, struct kp_strings *ret_removed, struct kp_error *error)
{
    const char *ami = aws_text(item, "imageId");
    int r = aws_simple(aws, AWS_EC2, "DeregisterImage", "ImageId", ami, error);
    if (r == 0)
        kp_strings_add(ret_removed, ami);
    return r < 0 ? kp_wrap(error, "AMI %s", ami) : 0;
}

static int running_amis(struct aws *aws, struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    static const char *const states[] = {"pending", "running", "stopping", "stopped"};
    aws_filter(&form, "instance-state-name", states[0]);
    for (size_t i = 1; i < KP_ARRAY_LEN(states); i++)
        aws_filter_more(&form, (int)i + 1, states[i]);
    int r = aws_list(aws, AWS_EC2, "DescribeInstances", &form, "reservationSet/item", arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++)
        for (const struct aws_node *item = aws_at(list.items[i], "instancesSet/item"); item; item = aws_again(item))
            kp_strings_add(ret, aws_text(item, "imageId"));
    return r;
}

static bool has(const struct kp_strings *list, const char *text)
{
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i], text))
            return true;
    return false;
}

/* Of images that are gone. One that is written to still is another run's; AWS ends it when that run is dead. */
static int remove_snapshots(struct aws *aws, const char *const *keep, const struct kp_strings *stay, struct kp_arena *arena, struct kp_strings *ret_removed,
                            struct kp_error *error)
{
    struct aws_list list;
    int r = find_snapshots(aws, NULL, arena, &list, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *id = aws_text(list.items[i], "snapshotId"), *image = aws_tag_of(list.items[i], AWS_TAG_IMAGE);
        if (is_in(image, keep) || has(stay, image) || kp_streq(aws_text(list.items[i], "status"), "pending"))
            continue;
        r = aws_simple(aws, AWS_EC2, "DeleteSnapshot", "SnapshotId", id, error);
        if (r == 0)
            kp_strings_add(ret_removed, id);
    }
    return r;
}

static int prune(struct aws *aws, const char *const *keep, struct kp_arena *arena, struct kp_strings *ret_removed, struct kp_error *error)
{
    AWS_FORM form = {0};
    struct aws_list list;
    struct kp_strings running = {0}, stay = {0};
    aws_set(&form, "Owner.1", "self");
    aws_filter(&form, "tag-key", AWS_TAG_IMAGE);
    int r = aws_list(aws, AWS_EC2, "DescribeImages", &form, "imagesSet/item", arena, &list, error);
    if (r == 0)
        r = running_amis(aws, arena, &running, error);
    for (size_t i = 0; r == 0 && i < list.len; i++) {
        const char *image = aws_tag_of(list.items[i], AWS_TAG_IMAGE);
        if (is_in(image, keep) || has(&running, aws_text(list.items[i], "imageId")))
            kp_strings_add(&stay, image);
        else
            r = remove_image(aws, list.items[i], ret_removed, error);
    }
    if (r == 0)
        r = remove_snapshots(aws, keep, &stay, arena, ret_removed, error);
    kp_strings_done(&running);
    kp_strings_done(&stay);
    return r;
}

int aws_images_prune(void *state, const char *const *keep, struct kp_strings *ret_removed, struct kp_error *error)
{
    struct aws *aws = state;
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    pthread_mutex_lock(&aws->making);
    int r = prune(aws, keep, arena, ret_removed, error);
    pthread_mutex_unlock(&aws->making);
    return r;
}
