/* Answers of AWS's APIs: any bytes are a tree that can be walked, or an error; errors are read without one. */
#include "lib/cloud/aws/aws_internal.h"

static size_t walk(const struct aws_node *node, int depth)
{
    size_t n = 1;
    KP_ASSERT(node->name && node->text && depth <= AWS_DEPTH_MAX);
    for (const struct aws_node *child = node->first; child; child = child->next)
        n += walk(child, depth + 1);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct aws_node *root = NULL;
    struct kp_error error = {0};
    const char *code, *message;
    int r = aws_xml_parse((const char *)data, size, arena, &root, &error);
    KP_ASSERT((r == 0) == (root != NULL) && (r == 0 || r == KP_ECORRUPT));
    if (r == 0) {
        KP_ASSERT(walk(root, 1) <= size);
        for (const struct aws_node *item = aws_at(root, "vpcSet/item"); item; item = aws_again(item))
            KP_ASSERT(aws_text(item, "vpcId") && aws_tag_of(item, AWS_TAG_CLUSTER));
    }
    const struct rest_answer answer = {.status = 400, .body = (const char *)data, .body_len = size};
    aws_read_error(&answer, arena, &code, &message);
    KP_ASSERT(code && message && aws_code(code, 400) < 0);
    (void)aws_retry_of(code, 400);
    return 0;
}
