/* AWS's XML answers as plain trees in an arena, so that nothing of libxml2 outlives the parsing. */
#include <libxml/parser.h>

#include "cloud/aws/aws_internal.h"

/* Text that stands directly in the element; white space between elements is none. */
static const char *text_in(const xmlNode *from, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    bool elements = false;
    for (const xmlNode *n = from->children; n; n = n->next) {
        if ((n->type == XML_TEXT_NODE || n->type == XML_CDATA_SECTION_NODE) && n->content)
            kp_buf_puts(&text, (const char *)n->content);
        elements |= n->type == XML_ELEMENT_NODE;
    }
    return elements || !text.len ? "" : kp_arena_strdup(arena, text.data);
}

static int copy(const xmlNode *from, int depth, struct kp_arena *arena, struct aws_node **ret, struct kp_error *error)
{
    if (depth > AWS_DEPTH_MAX)
        return kp_fail(error, KP_ECORRUPT, "AWS's answer is nested deeper than %d elements", AWS_DEPTH_MAX);
    struct aws_node *node = KP_NEW(arena, struct aws_node), **last = &node->first;
    node->name = kp_arena_strdup(arena, (const char *)from->name);
    node->text = text_in(from, arena);
    for (const xmlNode *n = from->children; n; n = n->next) {
        if (n->type != XML_ELEMENT_NODE)
            continue;
        int r = copy(n, depth + 1, arena, last, error);
        if (r < 0)
            return r;
        last = &(*last)->next;
    }
    *ret = node;
    return 0;
}

int aws_xml_parse(const char *text, size_t len, struct kp_arena *arena, const struct aws_node **ret, struct kp_error *error)
{
    if (len == 0 || len > AWS_ANSWER_MAX)
        return kp_fail(error, KP_ECORRUPT, "AWS's answer has %zu bytes", len);
    xmlDocPtr doc = xmlReadMemory(text, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    const xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    struct aws_node *copied = NULL;
    int r = root && !doc->intSubset ? copy(root, 1, arena, &copied, error) : kp_fail(error, KP_ECORRUPT, "AWS's answer is no XML as it sends it");
    xmlFreeDoc(doc);
    if (r == 0)
        *ret = copied;
    return r;
}

static const struct aws_node *named(const struct aws_node *node, const char *name, size_t len)
{
    for (; node; node = node->next)
        if (strlen(node->name) == len && memcmp(node->name, name, len) == 0)
            return node;
    return NULL;
}

const struct aws_node *aws_at(const struct aws_node *node, const char *path)
{
    while (node && *path) {
        size_t len = strcspn(path, "/");
        node = named(node->first, path, len);
        path += len + (path[len] == '/');
    }
    return node;
}

const struct aws_node *aws_again(const struct aws_node *node)
{
    return named(node->next, node->name, strlen(node->name));
}

const char *aws_text(const struct aws_node *node, const char *path)
{
    const struct aws_node *at = aws_at(node, path);
    return at ? at->text : "";
}

int64_t aws_int(const struct aws_node *node, const char *path)
{
    int64_t value = 0;
    return kp_parse_i64(aws_text(node, path), &value) < 0 ? 0 : value;
}

const char *aws_tag_of(const struct aws_node *item, const char *key)
{
    for (const struct aws_node *tag = aws_at(item, "tagSet/item"); tag; tag = aws_again(tag))
        if (kp_streq(aws_text(tag, "key"), key))
            return aws_text(tag, "value");
    for (const struct aws_node *tag = aws_at(item, "Tags/member"); tag; tag = aws_again(tag))
        if (kp_streq(aws_text(tag, "Key"), key))
            return aws_text(tag, "Value");
    return "";
}
