/* Instance types as machine types. */
#include "cloud/aws/aws_internal.h"

static int by_size(const void *a, const void *b)
{
    const struct cloud_machine_type *x = a, *y = b;
    if (x->vcpus != y->vcpus)
        return x->vcpus < y->vcpus ? -1 : 1;
    if (x->memory_mib != y->memory_mib)
        return x->memory_mib < y->memory_mib ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Node images are for x86-64. */
int aws_machine_types(void *state, struct kp_arena *arena, struct cloud_machine_type_list *ret, struct kp_error *error)
{
    struct aws *aws = state;
    AWS_FORM form = {0};
    struct aws_list list;
    aws_filter(&form, "processor-info.supported-architecture", "x86_64");
    int r = aws_list(aws, AWS_EC2, "DescribeInstanceTypes", &form, "instanceTypeSet/item", arena, &list, error);
    if (r < 0)
        return r;
    ret->items = KP_NEW_ARRAY(arena, struct cloud_machine_type, list.len + 1);
    ret->len = list.len;
    for (size_t i = 0; i < list.len; i++)
        ret->items[i] = (struct cloud_machine_type){.name = aws_text(list.items[i], "instanceType"), .vcpus = (int)aws_int(list.items[i], "vCpuInfo/defaultVCpus"),
                                                    .memory_mib = aws_int(list.items[i], "memoryInfo/sizeInMiB"),
                                                    .disk_gib = aws_int(list.items[i], "instanceStorageInfo/totalSizeInGB")};
    qsort(ret->items, ret->len, sizeof(*ret->items), by_size);
    return 0;
}

int aws_check_type(struct aws *aws, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    AWS_FORM form = {0};
    struct aws_list list;
    struct kp_error why = {0};
    aws_set(&form, "InstanceType.1", name);
    int r = aws_list(aws, AWS_EC2, "DescribeInstanceTypes", &form, "instanceTypeSet/item", arena, &list, &why);
    if (r < 0 && r != KP_EINVALID && r != KP_ENOTFOUND)
        return aws_pass(error, &why);
    if (r < 0 || list.len == 0)
        return kp_fail(error, KP_EINVALID, "there is no machine type \"%s\" in %s: one is called t3.medium, m6i.large", name, aws->region);
    for (const struct aws_node *arch = aws_at(list.items[0], "processorInfo/supportedArchitectures/item"); arch; arch = aws_again(arch))
        if (kp_streq(arch->text, "x86_64"))
            return 0;
    return kp_fail(error, KP_EINVALID, "machine type %s is not for x86-64, which node images are made for", name);
}
