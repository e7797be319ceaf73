/* Tables: columns from the schema, cells from the row function of the resource. */
#include "controlplane/apiserver/table/table_internal.h"

static const struct kp_column default_columns[] = {{"Name", "string", "name", 0, "The object's name within its namespace."},
                                                   {"Created At", "date", "", 0, "When the object was made."}};

static void put_column(const struct kp_column *column, struct kp_buf *out)
{
    kp_buf_puts(out, "{\"name\":");
    kp_json_string(out, column->name);
    kp_buf_puts(out, ",\"type\":");
    kp_json_string(out, column->type);
    kp_buf_puts(out, ",\"format\":");
    kp_json_string(out, column->format ? column->format : "");
    kp_buf_puts(out, ",\"description\":");
    KP_AUTO_BUF struct kp_buf doc = {0};
    if (column->path && kp_empty(column->doc))
        kp_buf_printf(&doc, "Custom resource definition column (in JSONPath format): %s", column->path);
    kp_json_string(out, doc.data ? doc.data : column->doc ? column->doc : "");
    kp_buf_printf(out, ",\"priority\":%d}", column->priority);
}

static const struct table_row *find_row(const struct kp_resource *resource)
{
    const struct table_row *const lists[] = {table_core_rows, table_workload_rows, table_other_rows};
    for (size_t i = 0; resource->table && resource->n_columns && i < KP_ARRAY_LEN(lists); i++)
        for (const struct table_row *row = lists[i]; row->name; row++)
            if (strcmp(row->name, resource->table) == 0)
                return row;
    return NULL;
}

void table_columns(const struct kp_resource *resource, struct kp_buf *out)
{
    bool own = resource->custom || find_row(resource);
    const struct kp_column *columns = own ? resource->columns : default_columns;
    size_t count = resource->custom ? table_custom_columns(resource) : own ? resource->n_columns : KP_ARRAY_LEN(default_columns);
    kp_buf_putc(out, '[');
    if (resource->custom) {
        put_column(&default_columns[0], out);
        kp_buf_puts(out, count ? "," : "");
    }
    for (size_t i = 0; i < count; i++) {
        kp_buf_puts(out, i ? "," : "");
        put_column(&columns[i], out);
    }
    kp_buf_putc(out, ']');
}

void cell_string(struct cells *cells, const char *s)
{
    kp_buf_puts(cells->out, cells->count++ ? "," : "");
    kp_json_string(cells->out, s ? s : "");
}

void cell_int(struct cells *cells, int64_t value)
{
    kp_buf_printf(cells->out, "%s%lld", cells->count++ ? "," : "", (long long)value);
}

void cell_bool(struct cells *cells, bool value)
{
    kp_buf_printf(cells->out, "%s%s", cells->count++ ? "," : "", value ? "true" : "false");
}

void cell_null(struct cells *cells)
{
    kp_buf_puts(cells->out, cells->count++ ? ",null" : "null");
}

void cell_map(struct cells *cells, const struct kp_string_map *map)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    for (size_t i = 0; i < map->len; i++)
        kp_buf_printf(&out, "%s%s=%s", i ? "," : "", map->items[i].key, map->items[i].value);
    cell_string(cells, out.len ? out.data : "<none>");
}

void cell_selector(struct cells *cells, const struct k8s_label_selector *selector)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    struct kp_selector parsed;
    struct kp_error error = {0};
    if (selector && kp_label_selector_from(selector, cells->arena, &parsed, &error) == 0)
        kp_selector_print(&parsed, &out);
    cell_string(cells, out.len ? out.data : "<none>");
}

void cell_containers(struct cells *cells, const struct k8s_pod_spec *spec)
{
    KP_AUTO_BUF struct kp_buf names = {0}, images = {0};
    for (size_t i = 0; spec && i < spec->containers.len; i++) {
        kp_buf_printf(&names, "%s%s", i ? "," : "", spec->containers.items[i].name);
        kp_buf_printf(&images, "%s%s", i ? "," : "", spec->containers.items[i].image ? spec->containers.items[i].image : "");
    }
    cell_string(cells, names.data);
    cell_string(cells, images.data);
}

void cell_age(struct cells *cells, const struct kp_time *since)
{
    cell_string(cells, since->set ? table_age(cells->now_s - since->seconds, cells->arena) : "<unknown>");
}

void table_cells(const struct kp_resource *resource, const void *obj, int64_t now_s, struct kp_arena *arena, struct kp_buf *out)
{
    struct cells cells = {.out = out, .arena = arena, .now_s = now_s, .resource = resource, .meta = kp_object_meta(resource->type, obj)};
    const struct table_row *row = find_row(resource);
    kp_buf_putc(out, '[');
    if (resource->custom) {
        table_custom_fill(&cells, obj);
    } else if (row) {
        row->fill(&cells, obj);
        KP_ASSERT(cells.count == resource->n_columns);
    } else {
        char created[KP_RFC3339_MAX];
        kp_format_rfc3339(created, cells.meta->creation_timestamp.seconds, 0, false);
        cell_string(&cells, cells.meta->name);
        cell_string(&cells, created);
    }
    kp_buf_putc(out, ']');
}

/* The coarser the longer, as upstream's duration.HumanDuration. */
const char *table_age(int64_t s, struct kp_arena *arena)
{
    int64_t minutes = s / 60, hours = s / 3600, days = hours / 24, years = hours / 24 / 365;
    if (s < -1)
        return "<invalid>";
    if (s < 0)
        return "0s";
    if (s < 60 * 2)
        return kp_arena_printf(arena, "%llds", (long long)s);
    if (minutes < 10)
        return s % 60 ? kp_arena_printf(arena, "%lldm%llds", (long long)minutes, (long long)(s % 60)) : kp_arena_printf(arena, "%lldm", (long long)minutes);
    if (minutes < 60 * 3)
        return kp_arena_printf(arena, "%lldm", (long long)minutes);
    if (hours < 8)
        return minutes % 60 ? kp_arena_printf(arena, "%lldh%lldm", (long long)hours, (long long)(minutes % 60)) : kp_arena_printf(arena, "%lldh", (long long)hours);
    if (hours < 48)
        return kp_arena_printf(arena, "%lldh", (long long)hours);
    if (hours < 24 * 8)
        return hours % 24 ? kp_arena_printf(arena, "%lldd%lldh", (long long)days, (long long)(hours % 24)) : kp_arena_printf(arena, "%lldd", (long long)days);
    if (hours < 24 * 365 * 2)
        return kp_arena_printf(arena, "%lldd", (long long)days);
    if (hours < 24 * 365 * 8)
        return days % 365 ? kp_arena_printf(arena, "%lldy%lldd", (long long)years, (long long)(days % 365)) : kp_arena_printf(arena, "%lldy", (long long)years);
    return kp_arena_printf(arena, "%lldy", (long long)years);
}
