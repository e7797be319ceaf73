/* Rows of custom resources: cells are what the JSONPaths of their definition find (apiextensions-apiserver tableconvertor.go). */
#include "controlplane/apiserver/table/table_internal.h"

#define ZERO_TIME_S INT64_C(-62135596800) /* 0001-01-01T00:00:00Z, what Go calls zero */

size_t table_custom_columns(const struct kp_resource *resource)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_jsonpath *path;
    size_t count = 0;
    while (count < resource->n_columns && kp_jsonpath_parse(resource->columns[count].path, arena, &path, NULL) == 0) {
        kp_arena_reset(arena);
        count++;
    }
    return count;
}

/* As Go's fmt prints a float64: exponents from 1e21 and below 1e-4, where JSON has them below 1e-6. */
static void print_double(double value, struct kp_buf *out)
{
    char text[64];
    int precision = 0;
    do
        snprintf(text, sizeof(text), "%.*e", precision, value);
    while (strtod(text, NULL) != value && ++precision < 17);
    long exponent = strtol(strchr(text, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 21)
        kp_buf_puts(out, text);
    else
        kp_value_print(&(struct kp_value){.kind = KP_VALUE_DOUBLE, .number = value}, out);
}

/* What the JSONPath printer writes. */
static void cell_text(struct cells *cells, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (value->kind == KP_VALUE_STRING)
        kp_buf_puts(&text, value->string);
    else if (value->kind == KP_VALUE_NULL)
        kp_buf_puts(&text, "<no value>");
    else if (value->kind == KP_VALUE_DOUBLE)
        print_double(value->number, &text);
    else
        kp_value_print_sorted(value, &text);
    cell_string(cells, text.data);
}

static void cell_date(struct cells *cells, const char *s)
{
    struct kp_time time = {.set = true};
    if (!*s || strcmp(s, "null") == 0)
        time.set = false;
    else if (kp_parse_rfc3339(s, &time.seconds, &time.nanos) < 0)
        return cell_string(cells, "<invalid>");
    if (time.seconds == ZERO_TIME_S && time.nanos == 0)
        time.set = false;
    cell_age(cells, &time);
}

static void cell_double(struct cells *cells, double value)
{
    kp_buf_puts(cells->out, cells->count++ ? "," : "");
    kp_value_print(&(struct kp_value){.kind = KP_VALUE_DOUBLE, .number = value}, cells->out);
}

static void cell_value(struct cells *cells, const char *type, const struct kp_value *value)
{
    bool number = value->kind == KP_VALUE_INT || value->kind == KP_VALUE_DOUBLE;
    if (strcmp(type, "string") == 0)
        cell_text(cells, value);
    else if (strcmp(type, "integer") == 0 && value->kind == KP_VALUE_INT)
        cell_int(cells, value->integer);
    else if (strcmp(type, "integer") == 0 && number) /* what does not fit becomes what Go makes of it on amd64 */
        cell_int(cells, value->number >= -0x1p63 && value->number < 0x1p63 ? (int64_t)value->number : INT64_MIN);
    else if (strcmp(type, "number") == 0 && number)
        cell_double(cells, value->kind == KP_VALUE_INT ? (double)value->integer : value->number);
    else if (strcmp(type, "boolean") == 0 && value->kind == KP_VALUE_BOOL)
        cell_bool(cells, value->boolean);
    else if (strcmp(type, "date") == 0 && value->kind == KP_VALUE_STRING)
        cell_date(cells, value->string);
    else
        cell_null(cells);
}

void table_custom_fill(struct cells *cells, const void *obj)
{
    const struct kp_resource *resource = cells->resource;
    KP_AUTO(kp_arena_free) struct kp_arena *objects = kp_arena_new(0);
    KP_AUTO(kp_arena_free) struct kp_arena *paths = kp_arena_new(0); /* of one column */
    const struct kp_value *tree = kp_value_from_object(resource->type, obj, objects);
    cell_string(cells, cells->meta->name);
    for (size_t i = 0; i < resource->n_columns; i++) {
        struct kp_jsonpath *path;
        struct kp_value_list found = {0};
        kp_arena_reset(paths);
        if (kp_jsonpath_parse(resource->columns[i].path, paths, &path, NULL) < 0)
            break;
        if (kp_jsonpath_find(path, tree, paths, &found, NULL) < 0 || !found.len)
            cell_null(cells);
        else
            cell_value(cells, resource->columns[i].type, found.items[0]); /* the first stands for all, as upstream */
    }
}
