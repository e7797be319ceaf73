/* Reading libvirt's documents (libxml2), and writing text into ours. */
#include <libxml/parser.h>

#include "cloud/libvirt/libvirt_internal.h"

#define XML_BYTES_MAX ((size_t)8 << 20)

int lv_xml_parse(const char *text, xmlDocPtr *ret_doc, struct kp_error *error)
{
    size_t len = text ? strlen(text) : 0;
    if (len == 0 || len > XML_BYTES_MAX)
        return kp_fail(error, KP_ECORRUPT, "libvirt gave a document of %zu bytes", len);
    *ret_doc = xmlReadMemory(text, (int)len, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    return *ret_doc ? 0 : kp_fail(error, KP_ECORRUPT, "libvirt gave a document that is no XML");
}

void lv_xml_free(xmlDocPtr doc)
{
    if (doc)
        xmlFreeDoc(doc);
}

static xmlNodePtr first_named(xmlNodePtr node, const char *name)
{
    for (; node; node = node->next)
        if (node->type == XML_ELEMENT_NODE && kp_streq((const char *)node->name, name))
            return node;
    return NULL;
}

xmlNodePtr lv_xml_child(xmlNodePtr node, const char *name)
{
    return node ? first_named(node->children, name) : NULL;
}

xmlNodePtr lv_xml_next(xmlNodePtr node, const char *name)
{
    return first_named(node->next, name);
}

const char *lv_xml_attr(xmlNodePtr node, const char *name, struct kp_arena *arena)
{
    xmlChar *value = node ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL;
    const char *copy = value ? kp_arena_strdup(arena, (const char *)value) : NULL;
    xmlFree(value);
    return copy;
}

void lv_xml_text(struct kp_buf *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': kp_buf_puts(out, "&amp;"); break;
        case '<': kp_buf_puts(out, "&lt;"); break;
        case '>': kp_buf_puts(out, "&gt;"); break;
        case '\'': kp_buf_puts(out, "&apos;"); break;
        case '"': kp_buf_puts(out, "&quot;"); break;
        default: kp_buf_putc(out, *text);
        }
    }
}
