/* kprov events: what kprov did, what its machines did and what the cluster tells, in one list by time. */
#include "api/k8s.h"
#include "client/client.h"
#include "provisioner/cli/events_internal.h"

#define POLL_MS 1000
#define PRINTED_MAX 100000 /* of -f: then what is printed is forgotten, and old events may come again */

static void add_machines(struct events *events, struct cloud_machine_list *machines, int64_t now_s)
{
    for (size_t i = 0; i < machines->len; i++) {
        const struct cloud_machine *machine = &machines->items[i];
        events_add(events, machine->created_s, "machine", machine->name, "Created",
                   kp_arena_printf(events->arena, "%s%s%s at %s", machine->role, *machine->pool ? " of pool " : "", machine->pool, machine->address));
        const char *power = machine->power == CLOUD_POWER_ON ? "PoweredOn" : "PoweredOff";
        const char *before = kp_strmap_get(events->power, machine->name);
        if (before ? !kp_streq(before, power) : machine->power == CLOUD_POWER_OFF)
            events_add(events, now_s, "machine", machine->name, power, before ? "" : "seen so");
        kp_strmap_put(events->power, machine->name, (void *)(uintptr_t)power);
    }
    for (size_t iter = 0;;) {
        const char *name = NULL;
        void *value = NULL;
        bool there = false;
        if (!kp_strmap_next(events->power, &iter, &name, &value))
            return;
        for (size_t i = 0; i < machines->len && !there; i++)
            there = kp_streq(machines->items[i].name, name);
        if (!there) {
            events_add(events, now_s, "machine", kp_arena_strdup(events->arena, name), "Gone", "");
            kp_strmap_remove(events->power, name);
        }
    }
}

static int64_t event_time(const struct k8s_event *event)
{
    int64_t time_s = KP_MAX(event->last_timestamp.seconds, event->event_time.seconds);
    time_s = KP_MAX(time_s, event->first_timestamp.seconds);
    return time_s ? time_s : event->metadata->creation_timestamp.seconds;
}

static int add_cluster(struct events *events, struct cli_api *api, struct kp_error *error)
{
    static const struct client_list_options options;
    void *answer = NULL;
    int r = client_list(cli_api_client(api), &k8s_events_resource, NULL, &options, events->arena, &answer, error);
    const struct k8s_event_list *list = answer;
    for (size_t i = 0; r == 0 && i < list->items.len; i++) {
        const struct k8s_event *event = &list->items.items[i];
        const struct k8s_object_reference *on = event->involved_object;
        const char *message = event->message ? event->message : "";
        if (event->has_count && event->count > 1)
            message = kp_arena_printf(events->arena, "%s (%d times)", message, event->count);
        events_add(events, event_time(event), "cluster",
                   kp_arena_printf(events->arena, "%s %s%s%s", on->kind ? on->kind : "", on->namespace ? on->namespace : "",
                                   on->namespace ? "/" : "", on->name ? on->name : ""),
                   event->reason ? event->reason : "", message);
    }
    return r;
}

/* A cluster whose API is down still has a journal and machines to tell of. */
static void collect_api(struct events *events, const char *name)
{
    KP_AUTO(cli_api_close) struct cli_api *api = NULL;
    struct kp_error error = {0};
    const char *path = NULL;
    if (cli_state_path(name, "admin.conf", events->arena, &path, &error) < 0 || !kp_path_exists(path))
        return;
    if (cli_api_open(path, &api, &error) == 0 && add_cluster(events, api, &error) == 0)
        events->api_failed = false;
    else if (!events->api_failed) {
        fprintf(stderr, "kprov: the cluster's own events are not known: %s\n", error.message);
        events->api_failed = true;
    }
}

static int collect(struct events *events, const struct state_cluster *cluster, struct cloud *cloud, struct kp_error *error)
{
    struct state_event_list journal = {0};
    struct cloud_machine_list machines = {0};
    int r = state_journal_read(cluster->name, events->arena, &journal, error);
    for (size_t i = 0; r == 0 && i < journal.len; i++) {
        const struct state_event *event = &journal.items[i];
        events_add(events, event->time_s, "kprov", event->object, event->intent,
                   kp_arena_printf(events->arena, "%s%s%s", state_event_outcome_name(event->outcome), *event->detail ? ": " : "", event->detail));
    }
    if (r == 0)
        r = cloud_machine_list(cloud, cluster->uid, events->arena, &machines, error);
    if (r < 0)
        return r;
    add_machines(events, &machines, kp_now_s());
    collect_api(events, cluster->name);
    events_sort(events);
    return 0;
}

static struct kp_value *row_value(const struct events_row *row, struct kp_arena *arena)
{
    char time[KP_RFC3339_MAX];
    struct kp_value *object = kp_value_object(arena);
    kp_format_rfc3339(time, row->time_s, 0, false);
    kp_value_set(arena, object, "time", kp_value_string(arena, time));
    kp_value_set(arena, object, "source", kp_value_string(arena, row->source));
    kp_value_set(arena, object, "object", kp_value_string(arena, row->object));
    kp_value_set(arena, object, "reason", kp_value_string(arena, row->reason));
    kp_value_set(arena, object, "message", kp_value_string(arena, row->message));
    return object;
}

int cli_events_value(const struct state_cluster *cluster, struct cloud *cloud, struct kp_arena *arena, struct kp_value **ret,
                     struct kp_error *error)
{
    struct events events = {.arena = arena, .power = kp_strmap_new()};
    int r = collect(&events, cluster, cloud, error);
    struct kp_value *list = kp_value_array(arena);
    for (size_t i = 0; r == 0 && i < events.len; i++)
        kp_value_append(arena, list, row_value(&events.rows[i], arena));
    kp_strmap_free(events.power, NULL);
    *ret = list;
    return r;
}

static void print_row(const struct events_row *row, enum cli_output output, struct kp_arena *arena)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    char time[KP_RFC3339_MAX];
    if (output == CLI_TABLE) {
        kp_format_rfc3339(time, row->time_s, 0, false);
        printf("%-20s  %-7s  %-36s  %-20s  %s\n", time, row->source, row->object, row->reason, row->message);
    } else if (output == CLI_JSON) {
        kp_value_print(row_value(row, arena), &text);
        printf("%s\n", text.data);
    } else {
        kp_yaml_print(row_value(row, arena), &text);
        printf("---\n%s", text.data);
    }
}

static int follow(const struct state_cluster *cluster, struct cloud *cloud, enum cli_output output, struct kp_error *error)
{
    struct events events = {.power = kp_strmap_new()};
    struct kp_strmap *printed = kp_strmap_new();
    static char seen;
    int r = 0;
    if (output == CLI_TABLE)
        printf("%-20s  %-7s  %-36s  %-20s  %s\n", "TIME", "SOURCE", "OBJECT", "REASON", "MESSAGE");
    for (; r == 0; r = cli_interrupted(error)) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        events.arena = arena;
        events.rows = NULL;
        events.len = 0;
        r = collect(&events, cluster, cloud, error);
        for (size_t i = 0; r == 0 && i < events.len; i++) {
            const struct events_row *row = &events.rows[i];
            const char *key = kp_arena_printf(arena, "%lld %s %s %s %s", (long long)row->time_s, row->source, row->object, row->reason, row->message);
            if (!kp_strmap_put(printed, key, &seen))
                print_row(row, output, arena);
        }
        fflush(stdout);
        if (kp_strmap_len(printed) > PRINTED_MAX) {
            kp_strmap_free(printed, NULL);
            printed = kp_strmap_new();
        }
        if (r < 0)
            break;
        kp_sleep_ms(POLL_MS);
    }
    kp_strmap_free(printed, NULL);
    kp_strmap_free(events.power, NULL);
    return r;
}

static int print_events(const char *name, bool following, enum cli_output output, struct kp_error *error)
{
    static const char *const columns[] = {"time", "source", "object", "reason", "message", NULL};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster cluster;
    struct kp_value *list = NULL;
    int r = cli_cluster_open(name, arena, &cluster, &cloud, error);
    if (r == 0 && following)
        return follow(&cluster, cloud, output, error);
    if (r == 0)
        r = cli_events_value(&cluster, cloud, arena, &list, error);
    if (r == 0)
        cli_print_list(list, columns, output);
    return r;
}

int cli_events(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table";
    enum cli_output format;
    bool help = false, following = false;
    const struct kp_flag flags[] = {
        {"follow", 'f', KP_FLAG_BOOL, &following, "go on as things happen", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml; with -f one JSON object a line", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("events", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("events", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = print_events(rest.items[0], following, format, error);
    kp_strings_done(&rest);
    return r;
}
