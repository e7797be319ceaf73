/* A custom resource made by hand, as the API server makes them of definitions: widgets.example.com. */
#ifndef WIDGETS_TEST_H
#define WIDGETS_TEST_H

#include "api/k8s.h"

#define WIDGET_SCHEMA                                                                                                               \
    "{\"type\":\"object\",\"description\":\"A thing of a size.\",\"required\":[\"spec\"],\"properties\":{"                           \
    "\"spec\":{\"type\":\"object\",\"description\":\"What is wanted.\",\"required\":[\"size\",\"color\"],\"properties\":{"            \
    "\"size\":{\"type\":\"integer\",\"format\":\"int32\",\"description\":\"How large.\",\"minimum\":1,\"maximum\":10.5},"              \
    "\"color\":{\"type\":\"string\",\"nullable\":true,\"maxLength\":20,\"pattern\":\"^[a-z]+$\"},"                                    \
    "\"port\":{\"x-kubernetes-int-or-string\":true},"                                                                               \
    "\"names\":{\"type\":\"array\",\"x-kubernetes-list-type\":\"set\",\"items\":{\"type\":\"string\",\"minLength\":1}},"                \
    "\"labels\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}},"                                                \
    "\"anything\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true,\"properties\":{\"a\":{\"type\":\"string\"}}},"   \
    "\"template\":{\"type\":\"object\",\"x-kubernetes-embedded-resource\":true,\"properties\":{\"spec\":{\"type\":\"object\"}}},"       \
    "\"one\":{\"type\":\"string\",\"oneOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}}},"                                            \
    "\"status\":{\"type\":\"object\",\"properties\":{\"replicas\":{\"type\":\"integer\"}}}}}"

struct widget {
    struct kp_type type, list_type;
    struct kp_subresource subresources[2];
    struct kp_resource resource;
};

/* "example.com" and "v1" give com.example.v1.Widget; the strings are borrowed. */
static inline void widget_init(struct widget *w, const char *group, const char *version, const char *schema, const char *const names[2])
{
    static const char *const short_names[] = {"wd", NULL}, *const categories[] = {"all", NULL};
    unsigned verbs = (1u << KP_VERB_COUNT) - 1;
    *w = (struct widget){.type = {.openapi_name = names[0], .name = "Widget", .group = group, .version = version, .kind = "Widget",
                                  .metadata_offset = -1, .has_object_meta = true, .doc = "", .schema_json = schema},
                         .list_type = {.openapi_name = names[1], .name = "WidgetList", .group = group, .version = version, .kind = "WidgetList",
                                       .metadata_offset = -1, .is_list = true, .item_type = &w->type, .doc = ""}};
    w->subresources[0] = (struct kp_subresource){.name = "status", .verbs = KP_VERB_GET | KP_VERB_UPDATE | KP_VERB_PATCH, .group = group,
                                                 .version = version, .kind = "Widget", .type = &w->type};
    w->subresources[1] = (struct kp_subresource){.name = "scale", .verbs = KP_VERB_GET | KP_VERB_UPDATE | KP_VERB_PATCH, .group = "autoscaling",
                                                 .version = "v1", .kind = "Scale", .type = &k8s_scale_type};
    w->resource = (struct kp_resource){.group = group, .version = version, .name = "widgets", .singular = "widget", .kind = "Widget",
                                       .short_names = short_names, .categories = categories, .namespaced = true, .verbs = verbs,
                                       .type = &w->type, .list_type = &w->list_type, .subresources = w->subresources, .n_subresources = 2,
                                       .custom = w};
}

static inline void widget_v1(struct widget *w)
{
    static const char *const names[2] = {"com.example.v1.Widget", "com.example.v1.WidgetList"};
    widget_init(w, "example.com", "v1", WIDGET_SCHEMA, names);
}

#endif
