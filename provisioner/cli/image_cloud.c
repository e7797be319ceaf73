/* Copies of node images that a cloud keeps: brought there ahead of a cluster, and removed. */
#include "provisioner/cli/cli.h"

/* The account is the environment's, or one of the cloud's own profiles. */
static int open_account(const char *provider, const char *profile, const char *region, struct cloud **ret, struct kp_error *error)
{
    const struct cloud_options options = {.image_dir = cli_image_dir(), .account = {.profile = profile, .region = region}};
    if (kp_empty(provider))
        return kp_fail(error, KP_EUSAGE, "--provider is wanted: aws, hetzner or openstack");
    return cloud_open(provider, &options, ret, error);
}

static int upload(struct cloud *cloud, const char *id, struct kp_arena *arena, struct kp_error *error)
{
    bool disk = cloud_can(cloud, CLOUD_BOOTS_DISKS);
    int r = disk ? 0 : cli_image_vm(id, arena, error);
    if (r == 0)
        r = cloud_image_ensure(cloud, id, error);
    if (r != KP_ENOTFOUND || !disk)
        return r;
    r = cli_image_disk(id, arena, error);
    return r < 0 ? r : cloud_image_ensure(cloud, id, error);
}

int cli_image_upload(int argc, char **argv, struct kp_error *error)
{
    const char *provider = NULL, *profile = NULL, *region = NULL, *id = NULL, *version = NULL;
    const struct kp_flag flags[] = {
        {"provider", 0, KP_FLAG_STRING, &provider, "aws, hetzner or openstack", NULL},
        {"profile", 0, KP_FLAG_STRING, &profile, "of the account, instead of the environment's", NULL},
        {"region", 0, KP_FLAG_STRING, &region, "of the account, instead of the environment's", NULL},
        {0},
    };
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct kp_strings rest = {0};
    bool help = false;
    int r = cli_parse("image upload", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("image upload", &rest, 0, 1, error);
    if (r == 0 && !help && rest.len)
        id = kp_arena_strdup(arena, rest.items[0]);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    r = open_account(provider, profile, region, &cloud, error);
    if (r == 0)
        r = id ? cli_image_version(id, arena, &version, error) : cli_image_ensure(arena, &id, error);
    if (r == 0)
        r = upload(cloud, id, arena, error);
    if (r == 0)
        printf("%s\n", id);
    return r;
}

int cli_image_prune_cloud(const char *provider, const char *const *keep, struct kp_error *error)
{
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct kp_strings removed = {0};
    int r = open_account(provider, NULL, NULL, &cloud, error);
    if (r == 0)
        r = cloud_images_prune(cloud, keep, &removed, error);
    for (size_t i = 0; i < removed.len; i++)
        printf("removed %s of %s\n", removed.items[i], provider);
    kp_strings_done(&removed);
    return r;
}
