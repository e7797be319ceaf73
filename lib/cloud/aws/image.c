/* Node images on AWS are AMIs: found by id, by the tag that names the node image in them, or by name. */
#include "cloud/aws/aws_internal.h"

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
    return kp_fail(error, KP_ENOTFOUND, "no AMI of this account in %s carries the tag " AWS_TAG_IMAGE "=%s or that name: make one of the node image and tag it "
                   "(docs/aws.md, \"The node image\")", aws->region, image);
}

int aws_image_ensure(struct aws *aws, const char *image, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *ami;
    return aws_image_find(aws, image, arena, &ami, error);
}
