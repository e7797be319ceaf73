/* A custom resource as the API server makes them of definitions, made by hand: objects are structs, everything else is raw JSON. */
#ifndef TESTS_APISERVER_WIDGET_H
#define TESTS_APISERVER_WIDGET_H

#include "api/k8s.h"

struct widget_part {
    struct kp_raw name, size;
};
struct widget_spec {
    struct kp_raw replicas, color, size, on, born, hosts, extra;
    struct {
        struct widget_part *items;
        size_t len;
    } parts;
};
struct widget_status {
    struct kp_raw replicas, selector;
};
struct widget {
    struct k8s_object_meta *metadata;
    struct widget_spec *spec;
    struct widget_status *status;
};

#define WIDGET_FIELD(of, member, kind_, cardinality_, type_, value_)                                                                                  \
    {.json_name = #member, .json_name_len = sizeof(#member) - 1, .offset = offsetof(struct of, member), .has_offset = -1, .kind = (kind_),             \
     .cardinality = (cardinality_), .type = (type_), .value = (value_), .doc = ""}
#define WIDGET_RAW(of, member) WIDGET_FIELD(of, member, KP_KIND_RAW, KP_ONE, NULL, false)
#define WIDGET_TYPE(of, name_, table) .openapi_name = "test.example." name_, .name = name_, .group = "example.test", .version = "v1", .size = sizeof(struct of), \
                                      .fields = (table), .n_fields = KP_ARRAY_LEN(table), .doc = ""

static const struct kp_field widget_part_fields[] = {WIDGET_RAW(widget_part, name), WIDGET_RAW(widget_part, size)};
static const struct kp_type widget_part_type = {WIDGET_TYPE(widget_part, "WidgetPart", widget_part_fields), .metadata_offset = -1};
static const struct kp_field widget_spec_fields[] = {
    WIDGET_RAW(widget_spec, replicas), WIDGET_RAW(widget_spec, color), WIDGET_RAW(widget_spec, size),  WIDGET_RAW(widget_spec, on),
    WIDGET_RAW(widget_spec, born),     WIDGET_RAW(widget_spec, hosts), WIDGET_RAW(widget_spec, extra),
    WIDGET_FIELD(widget_spec, parts, KP_KIND_STRUCT, KP_LIST, &widget_part_type, false)};
static const struct kp_type widget_spec_type = {WIDGET_TYPE(widget_spec, "WidgetSpec", widget_spec_fields), .metadata_offset = -1};
static const struct kp_field widget_status_fields[] = {WIDGET_RAW(widget_status, replicas), WIDGET_RAW(widget_status, selector)};
static const struct kp_type widget_status_type = {WIDGET_TYPE(widget_status, "WidgetStatus", widget_status_fields), .metadata_offset = -1};
static const struct kp_field widget_fields[] = {WIDGET_FIELD(widget, metadata, KP_KIND_STRUCT, KP_ONE, &k8s_object_meta_type, true),
                                                WIDGET_FIELD(widget, spec, KP_KIND_STRUCT, KP_ONE, &widget_spec_type, false),
                                                WIDGET_FIELD(widget, status, KP_KIND_STRUCT, KP_ONE, &widget_status_type, false)};
static const struct kp_type widget_type = {WIDGET_TYPE(widget, "Widget", widget_fields), .kind = "Widget",
                                           .metadata_offset = offsetof(struct widget, metadata), .has_object_meta = true};

static const char *const widget_no_names[] = {NULL};
static const struct kp_resource widget_resource = {.group = "example.test", .version = "v1", .name = "widgets", .singular = "widget", .kind = "Widget",
                                                   .short_names = widget_no_names, .categories = widget_no_names, .namespaced = true,
                                                   .type = &widget_type, .custom = &widget_type};

#endif
