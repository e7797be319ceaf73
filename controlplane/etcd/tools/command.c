/* The command lines: which sub-command, its flags, and what its end tells the shell. */
#include "controlplane/etcd/tools/tools_internal.h"

#include "controlplane/etcd/server/server.h"

#define DEFAULT_PEER_URL "http://localhost:2380"

static int fail_with(int status, const char *message)
{
    fprintf(stderr, "Error: %s\n", message);
    return status;
}

static int fail_status(const struct kp_error *error)
{
    return fail_with(error->code == KP_EUSAGE ? TOOLS_BAD_ARGUMENTS : TOOLS_FAILED, error->message);
}

/* What a sub-command got: its words, or the status to end with when there is nothing more to do. */
struct arguments {
    struct kp_strings words;
    enum tools_format format;
    int status;
};

/* usage: after the program's name. Every command knows --write-out and --help. */
static bool parse(struct arguments *arguments, const struct kp_flag *flags, const char *const *format, const char *usage,
                  int argc, char **argv)
{
    bool help = false;
    struct kp_error error = {0};
    if (kp_flags_parse(flags, argc, argv, &arguments->words, &help, &error) < 0) {
        arguments->status = fail_with(TOOLS_FAILED, error.message);
        return false;
    }
    if (help) {
        printf("Usage:\n  etcdutl %s\n\nFlags:\n", usage);
        kp_flags_print(flags, stdout);
        return false;
    }
    if (!tools_parse_format(*format, &arguments->format)) {
        arguments->status = fail_with(TOOLS_BAD_FEATURE, "unsupported output format");
        return false;
    }
    return true;
}

#define FLAG_WRITE_OUT(where)                                                                                          \
    {"write-out", 'w', KP_FLAG_STRING, where, "set the output format (fields, json, simple, table)", NULL}

static int run_status(int argc, char **argv)
{
    const char *format = "simple";
    const struct kp_flag flags[] = {FLAG_WRITE_OUT(&format), {0}};
    struct arguments arguments = {0};
    struct snapshot_file file;
    struct snapshot_status status;
    struct kp_error error = {0};
    if (!parse(&arguments, flags, &format, "snapshot status <filename> [flags]", argc, argv)) {
    } else if (arguments.words.len != 1) {
        arguments.status = fail_with(TOOLS_BAD_ARGUMENTS, "snapshot status requires exactly one argument");
    } else if (snapshot_open(arguments.words.items[0], SNAPSHOT_HASH_IF_THERE, &file, &error) < 0) {
        arguments.status = fail_status(&error);
    } else {
        if (snapshot_status(&file, &status, &error) < 0)
            arguments.status = fail_status(&error);
        else
            tools_print_status(stdout, arguments.format, &status);
        snapshot_close(&file);
    }
    kp_strings_done(&arguments.words);
    return arguments.status;
}

struct restore_flags {
    struct restore_options options;
    int64_t bump, map_size, quota;
    bool mark_compacted;
};

/* The words are the caller's; data_dir is set, and *ret_made what has to be freed for it. */
static int restore_check(struct restore_flags *o, const struct kp_strings *words, char **ret_made)
{
    if (words->len != 1)
        return fail_with(TOOLS_BAD_ARGUMENTS, "snapshot restore requires exactly one argument");
    if (o->bump < 0 || o->map_size < 0)
        return fail_with(TOOLS_FAILED, "--bump-revision and --initial-memory-map-size must not be negative");
    if ((o->bump > 0) != o->mark_compacted)
        return fail_with(TOOLS_BAD_ARGUMENTS, "--mark-compacted required if --revision-bump > 0");
    o->options.file = words->items[0];
    o->options.bump = (uint64_t)o->bump;
    if (kp_empty(o->options.data_dir))
        o->options.data_dir = *ret_made = kp_asprintf("%s.etcd", o->options.name);
    return 0;
}

static int run_restore(int argc, char **argv)
{
    const char *format = "simple";
    struct restore_flags o = {.options = {.data_dir = "",
                                          .wal_dir = "",
                                          .name = "default",
                                          .initial_cluster = "default=" DEFAULT_PEER_URL,
                                          .initial_cluster_token = "etcd-cluster",
                                          .initial_advertise_peer_urls = DEFAULT_PEER_URL}};
    struct restore_options *r = &o.options;
    const struct kp_flag flags[] = {
        {"bump-revision", 0, KP_FLAG_I64, &o.bump, "How much to increase the latest revision after restore", NULL},
        {"data-dir", 0, KP_FLAG_STRING, &r->data_dir, "Path to the output data directory", NULL},
        {"initial-advertise-peer-urls", 0, KP_FLAG_STRING, &r->initial_advertise_peer_urls, "this member's peer URLs", NULL},
        {"initial-cluster", 0, KP_FLAG_STRING, &r->initial_cluster, "name=url of every member", NULL},
        {"initial-cluster-token", 0, KP_FLAG_STRING, &r->initial_cluster_token, "tells clusters apart", NULL},
        {"initial-memory-map-size", 0, KP_FLAG_I64, &o.map_size, "no effect: the map grows by itself", NULL},
        {"mark-compacted", 0, KP_FLAG_BOOL, &o.mark_compacted, "compact all below the raised revision (with --bump-revision)",
         NULL},
        {"name", 0, KP_FLAG_STRING, &r->name, "human-readable name of this member", NULL},
        {"skip-hash-check", 0, KP_FLAG_BOOL, &r->skip_hash, "take a database copied from a data directory", NULL},
        {"wal-dir", 0, KP_FLAG_STRING, &r->wal_dir, "folder of the log, when not below --data-dir", NULL},
        FLAG_WRITE_OUT(&format),
        {0}};
    struct arguments arguments = {0};
    struct kp_error error = {0};
    KP_AUTO_FREE char *made = NULL;
    const char *usage = "snapshot restore <filename> --data-dir {output dir} [options] [flags]";
    if (parse(&arguments, flags, &format, usage, argc, argv) &&
        (arguments.status = restore_check(&o, &arguments.words, &made)) == 0) {
        kp_info("restoring snapshot", "path", r->file, "data-dir", r->data_dir, "wal-dir", r->wal_dir, NULL);
        if (tools_restore(r, &error) < 0)
            arguments.status = fail_with(TOOLS_FAILED, error.message);
        else
            kp_info("restored snapshot", "path", r->file, "data-dir", r->data_dir, "wal-dir", r->wal_dir, NULL);
    }
    kp_strings_done(&arguments.words);
    return arguments.status;
}

static int run_snapshot(int argc, char **argv)
{
    if (argc > 1 && kp_streq(argv[1], "status"))
        return run_status(argc - 1, argv + 1);
    if (argc > 1 && kp_streq(argv[1], "restore"))
        return run_restore(argc - 1, argv + 1);
    if (argc > 1 && kp_streq(argv[1], "save"))
        return fail_with(TOOLS_BAD_ARGUMENTS, "In order to download snapshot use: `etcdctl snapshot save ...`");
    fprintf(argc > 1 ? stderr : stdout, "Usage:\n  etcdutl snapshot restore|status\n");
    return argc > 1 ? TOOLS_FAILED : 0;
}

static int run_hashkv(int argc, char **argv)
{
    const char *format = "simple", *data_dir = "";
    int64_t revision = 0;
    const struct kp_flag flags[] = {
        {"data-dir", 0, KP_FLAG_STRING, &data_dir, "instead of a file: the data of a member that is not running", NULL},
        {"rev", 0, KP_FLAG_I64, &revision, "maximum revision to hash (default: latest revision)", NULL},
        FLAG_WRITE_OUT(&format),
        {0}};
    struct arguments arguments = {0};
    struct hash_result result;
    struct kp_error error = {0};
    if (!parse(&arguments, flags, &format, "hashkv <filename> [flags]", argc, argv)) {
    } else if (arguments.words.len != (kp_empty(data_dir) ? 1 : 0)) {
        arguments.status = fail_with(TOOLS_FAILED, "hashkv takes one file, or --data-dir and none");
    } else if (tools_hash(arguments.words.len ? arguments.words.items[0] : NULL, data_dir, revision, &result, &error) < 0) {
        arguments.status = fail_with(TOOLS_FAILED, error.message);
    } else {
        tools_print_hash(stdout, arguments.format, &result);
    }
    kp_strings_done(&arguments.words);
    return arguments.status;
}

static int run_defrag(int argc, char **argv)
{
    const char *format = "simple", *data_dir = "", *wal_dir = "";
    const struct kp_flag flags[] = {
        {"data-dir", 0, KP_FLAG_STRING, &data_dir, "Required. Defragments a data directory not in use by etcd.", NULL},
        {"wal-dir", 0, KP_FLAG_STRING, &wal_dir, "folder of the log, when not below --data-dir", NULL},
        FLAG_WRITE_OUT(&format),
        {0}};
    struct arguments arguments = {0};
    struct kp_error error = {0};
    if (!parse(&arguments, flags, &format, "defrag [flags]", argc, argv)) {
    } else if (kp_empty(data_dir)) {
        arguments.status = fail_with(TOOLS_FAILED, "required flag(s) \"data-dir\" not set");
    } else if (tools_defragment(data_dir, wal_dir, &error) < 0) {
        KP_AUTO_FREE char *text = kp_asprintf("Failed to defragment etcd data[%s] (%s)", data_dir, error.message);
        arguments.status = fail_with(TOOLS_FAILED, text);
    } else {
        kp_info("finished defragmenting directory", "path", data_dir, NULL);
    }
    kp_strings_done(&arguments.words);
    return arguments.status;
}

static int run_version(int argc, char **argv)
{
    printf("etcdutl version: %s\nAPI version: 3.6\n", ETCD_VERSION);
    return 0;
}

static const struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"snapshot", "restores snapshots and tells what is in them", run_snapshot},
    {"hashkv", "prints the hash of the keys' history in a file", run_hashkv},
    {"defrag", "makes the database of a stopped member smaller", run_defrag},
    {"version", "prints the version", run_version},
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(commands); i++)
        if (kp_streq(commands[i].name, name))
            return &commands[i];
    return NULL;
}

static bool is_etcdutl(const char *program)
{
    const char *slash = strrchr(program, '/');
    return kp_streq(slash ? slash + 1 : program, "etcdutl");
}

bool tools_wanted(int argc, char **argv)
{
    return (argc > 0 && is_etcdutl(argv[0])) || (argc > 1 && find(argv[1]));
}

int tools_main(int argc, char **argv)
{
    kp_log_init("etcdutl", KP_LOG_INFO);
    const struct command *command = argc > 1 ? find(argv[1]) : NULL;
    if (command)
        return command->run(argc - 1, argv + 1);
    bool help = argc < 2 || kp_streq(argv[1], "help") || kp_streq(argv[1], "--help") || kp_streq(argv[1], "-h");
    if (!help) {
        fprintf(stderr, "Error: unknown command \"%s\" for \"etcdutl\"\nRun 'etcdutl --help' for usage.\n", argv[1]);
        return TOOLS_FAILED;
    }
    printf("Usage:\n  etcdutl [command]\n\nAvailable Commands:\n");
    for (size_t i = 0; i < KP_ARRAY_LEN(commands); i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].help);
    return 0;
}
