/* The table of commands, their help, and the way to them. */
#include "provisioner/cli/cli.h"

#define COMMANDS_MAX 128

const struct cli_command cli_commands[] = {
    {"create cluster", "[NAME] [flags]", "Make a cluster, or finish one whose creation was interrupted",
     "kprov create cluster demo --workers 2\nkprov create cluster -f cluster.yaml --wait 5m\n"
     "kprov create cluster demo --provider openstack --machine m1.small --dry-run", cli_create_cluster},
    {"plan", "-f FILE [-o table|json|yaml]", "Show what apply would do; exit status 2 when that is something",
     "kprov plan -f cluster.yaml\nkprov plan -f cluster.yaml -o json", cli_plan},
    {"apply", "-f FILE [--yes]", "Make a cluster what a file says: create it, or change its pools",
     "kprov apply -f cluster.yaml --yes", cli_apply},
    {"scale nodepool", "CLUSTER POOL --replicas N [--remove NODE,...]", "Change how many machines a pool has",
     "kprov scale nodepool demo worker --replicas 5\nkprov scale nodepool demo worker --replicas 2 --remove worker-1",
     cli_scale_nodepool},
    {"scale controlplane", "CLUSTER --replicas N", "Change how many control planes a cluster has: 1, 3, 5 or 7",
     "kprov scale controlplane demo --replicas 3", cli_scale_controlplane},
    {"upgrade cluster", "NAME [--version V] [--image ID] [--yes] [--dry-run]",
     "Bring every machine, one at a time, to the node image of this kprov; the same command again goes on",
     "kprov upgrade cluster demo --dry-run\nkprov upgrade cluster demo --yes\nkprov upgrade cluster demo --image node-0123456789abcdef --yes",
     cli_upgrade_cluster},
    {"rollback cluster", "NAME [--yes] [--dry-run]", "Bring every machine, one at a time, back to the image before the last upgrade",
     "kprov rollback cluster demo --yes", cli_rollback_cluster},
    {"repair", "CLUSTER [--node NODE] [--yes] [--dry-run]", "Mend a cluster: machines that are gone, off or sick, members of etcd that are lost",
     "kprov repair demo\nkprov repair demo --node cp-2 --yes\nkprov repair demo --dry-run -o json", cli_repair},
    {"delete cluster", "NAME [--yes] [--dry-run] [-o table|json|yaml]", "Delete a cluster and everything that was made for it",
     "kprov delete cluster demo --dry-run\nkprov delete cluster demo --yes -o json", cli_delete_cluster},
    {"adopt", "UID [-f FILE | --provider P] [--dry-run] [-o yaml|json]", "Take over a cluster whose state folder is lost: config and keys are read off its machines",
     "kprov adopt 1b4e28ba-2fa1-41d2-883f-0016d3cca427 --dry-run\nkprov adopt 1b4e28ba-2fa1-41d2-883f-0016d3cca427", cli_adopt},
    {"gc", "[-f FILE | --provider P] [--cluster-uid UID] [--yes] [-o table|json|yaml]",
     "List what carries a cluster's tag in a cloud and belongs to none of its parts; with --yes remove it",
     "kprov gc\nkprov gc --provider openstack -o json\nkprov gc --provider aws --cluster-uid 1b4e28ba-2fa1-41d2-883f-0016d3cca427 --yes", cli_gc},
    {"events", "CLUSTER [-f] [-o table|json|yaml]", "List what kprov, the machines and the cluster did, by time",
     "kprov events demo\nkprov events demo -f -o json", cli_events},
    {"describe cluster", "NAME [-o json|yaml]", "Show a cluster as a tree: machines, static pods, etcd, network, add-ons, certificates",
     "kprov describe cluster demo\nkprov describe cluster demo -o yaml", cli_describe_cluster},
    {"support-bundle", "CLUSTER [-f FILE.tar.gz] [-o json|yaml]", "Gather state, logs and API objects without secrets into one file",
     "kprov support-bundle demo\nkprov support-bundle demo -f demo.tar.gz", cli_support_bundle},
    {"validate cluster", "NAME [--wait D] [-o table|json|yaml]", "Check machines, API, nodes, etcd, certificates, DNS and a test pod; exit status 1 when a check fails",
     "kprov validate cluster demo\nkprov validate cluster demo --wait 2m -o json", cli_validate_cluster},
    {"get clusters", "[-o table|json|yaml]", "List clusters", "kprov get clusters -o json", cli_get_clusters},
    {"get nodes", "--cluster NAME [-o table|json|yaml]", "List a cluster's machines",
     "kprov get nodes --cluster demo", cli_get_nodes},
    {"kubeconfig", "NAME", "Print a cluster's kubeconfig", "kprov kubeconfig demo > demo.conf", cli_kubeconfig},
    {"node stop", "CLUSTER NODE [--force]", "Power a machine off; --force pulls the plug",
     "kprov node stop demo worker-1 --force", cli_node_stop},
    {"node start", "CLUSTER NODE", "Power a machine on", "kprov node start demo worker-1", cli_node_start},
    {"logs", "CLUSTER NODE [COMPONENT] [-f]", "Print a machine's console, or the log of a program on it",
     "kprov logs demo cp-1\nkprov logs demo cp-1 kube-apiserver -f\nkprov logs demo cp-1 kube-apiserver-audit -f", cli_logs},
    {"exec", "CLUSTER NODE -- COMMAND [ARG...]", "Run a command on a machine",
     "kprov exec demo worker-1 -- nft list ruleset", cli_exec},
    {"ssh", "CLUSTER NODE [-- COMMAND [ARG...]]", "Log in to a machine, with the cluster's key and the machine's own host key",
     "kprov ssh demo worker-1\nkprov ssh demo worker-1 -- cat /proc/loadavg", cli_ssh},
    {"certs list", "CLUSTER [-o table|json|yaml]", "List a cluster's certificates: when they end, who signed them, whether they are in use",
     "kprov certs list demo\nkprov certs list demo -o json", cli_certs_list},
    {"certs renew", "CLUSTER [--node NODE]", "Issue the certificates of machines and of the administrator anew, machine by machine",
     "kprov certs renew demo\nkprov certs renew demo --node worker-1", cli_certs_renew},
    {"certs rotate-ca", "CLUSTER [--authority NAME] [--until PHASE]", "Replace an authority: trusted beside the old one, then signing, then alone",
     "kprov certs rotate-ca demo\nkprov certs rotate-ca demo --authority service-accounts --until reissue", cli_certs_rotate_ca},
    {"etcd snapshot save", "CLUSTER [FILE]", "Save what is in etcd, with the keys that belong to it",
     "kprov etcd snapshot save demo\nkprov etcd snapshot save demo /backup/demo.db", cli_snapshot_save},
    {"etcd snapshot list", "CLUSTER [-o table|json|yaml]", "List a cluster's snapshots, here and on its control planes", "kprov etcd snapshot list demo",
     cli_snapshot_list},
    {"etcd snapshot fetch", "CLUSTER NAME [FILE]", "Bring a snapshot that a control plane has taken by itself, with the keys that belong to it",
     "kprov etcd snapshot fetch demo demo-cp-1-r4711-20261121T101855Z.db", cli_snapshot_fetch},
    {"etcd snapshot restore", "CLUSTER FILE|NAME [--yes]", "Make a cluster's etcd what a snapshot says; the API is away meanwhile",
     "kprov etcd snapshot restore demo demo-20261121T101855Z.db --yes", cli_snapshot_restore},
    {"image build", "[--vm|--disk]", "Build the node image of these programs, unless it is there", "kprov image build",
     cli_image_build},
    {"image list", "[-o table|json|yaml]", "List node images", "kprov image list", cli_image_list},
    {"image upload", "[IMAGE] --provider aws|hetzner|openstack", "Bring a node image to a cloud ahead of its first cluster",
     "kprov image upload --provider aws\nkprov image upload node-0123456789abcdef --provider hetzner", cli_image_upload},
    {"image prune", "[--uri URI] [--provider aws|hetzner|openstack]", "Remove node images that no cluster uses, libvirt's copies of them too, and a cloud's",
     "kprov image prune\nkprov image prune --uri qemu:///system\nkprov image prune --provider aws", cli_image_prune},
    {"completion", "bash|zsh|fish", "Print a shell's completion script", "source <(kprov completion bash)",
     cli_completion},
    {"version", "[-o json|yaml]", "Print the version", "kprov version", cli_version},
    {0},
};

static void print_help(FILE *out)
{
    fprintf(out, "kprov makes Kubernetes clusters out of machines.\n\nCommands:\n");
    size_t width = 0;
    for (const struct cli_command *command = cli_commands; command->words; command++)
        width = KP_MAX(width, strlen(command->words));
    for (const struct cli_command *command = cli_commands; command->words; command++)
        fprintf(out, "  %-*s  %s\n", (int)width, command->words, command->help);
    fprintf(out, "\nkprov COMMAND --help tells more of one.\n"
                 "\nExit status: 0 done, 1 failed, 2 wrong command line (of plan: changes are due), 130 interrupted; exec and ssh give their command's.\n"
                 "Every command takes --lock-timeout DURATION: how long to wait while another one changes the same cluster (1s).\n"
                 "Environment: KPROV_STATE_DIR or XDG_STATE_HOME (state of clusters), KPROV_IMAGE_DIR (node images), KPROV_LOCK_TIMEOUT,\n"
                 "KPROV_CLOUD_TIMEOUT (how long to wait for an answer of the provider; otherwise 30s to 10m, as the call needs).\n");
}

void cli_print_command_help(const struct cli_command *command, const struct kp_flag *flags)
{
    printf("%s.\n\nUsage: kprov %s %s\n", command->help, command->words, command->usage);
    if (flags[0].name) {
        printf("\nFlags:\n");
        kp_flags_print(flags, stdout);
    }
    printf("\nExamples:\n");
    for (const char *line = command->examples; *line;) {
        size_t len = strcspn(line, "\n");
        printf("  %.*s\n", (int)len, line);
        line += len + (line[len] != 0);
    }
}

static const struct cli_command *find_command(const char *words)
{
    const struct cli_command *command = cli_commands;
    while (command->words && !kp_streq(command->words, words))
        command++;
    return command->words ? command : NULL;
}

int cli_parse(const char *words, const struct kp_flag *flags, int argc, char **argv, struct kp_strings *ret_rest,
              bool *ret_help, struct kp_error *error)
{
    const struct cli_command *command = find_command(words);
    KP_ASSERT(command);
    if (kp_flags_parse(flags, argc, argv, ret_rest, ret_help, error) < 0)
        return kp_fail(error, KP_EUSAGE, "%s (see kprov %s --help)", error->message, words);
    if (*ret_help)
        cli_print_command_help(command, flags);
    return 0;
}

int cli_want_words(const char *words, const struct kp_strings *rest, size_t min, size_t max, struct kp_error *error)
{
    if (rest->len >= min && rest->len <= max)
        return 0;
    return kp_fail(error, KP_EUSAGE, "usage: kprov %s %s", words, find_command(words)->usage);
}

static int count_words(const char *words)
{
    int n = 1;
    for (; *words; words++)
        n += *words == ' ';
    return n;
}

/* The commands that begin with the words given, as "get clusters, get nodes"; false when there are none. */
static bool list_group(const char *words)
{
    size_t len = strlen(words), n = 0;
    for (const struct cli_command *command = cli_commands; command->words; command++) {
        if (!kp_starts_with(command->words, words) || command->words[len] != ' ')
            continue;
        fprintf(stderr, "%s%s", n++ ? ", " : "kprov: ", command->words);
    }
    if (n)
        fprintf(stderr, ": say which\n");
    return n > 0;
}

/* What may have been meant: by all words of the command line, by two, by one. */
static void print_unknown(int argc, char **argv)
{
    const char *known[COMMANDS_MAX + 1] = {0};
    char words[3][128] = {""};
    const char *close = NULL;
    int n = 0;
    for (size_t i = 0; cli_commands[i].words; i++) {
        KP_ASSERT(i < COMMANDS_MAX);
        known[i] = cli_commands[i].words;
    }
    for (; n < 3 && n + 1 < argc && argv[n + 1][0] != '-'; n++)
        snprintf(words[n], sizeof(words[n]), "%s%s%s", n ? words[n - 1] : "", n ? " " : "", argv[n + 1]);
    if (n > 0 && n < 3 && list_group(words[n - 1]))
        return;
    for (int i = n; i-- > 0 && !close;)
        close = kp_closest(words[i], known);
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; known[i]; i++)
        known[i] = kp_arena_strndup(arena, known[i], strcspn(known[i], " "));
    if (!close && n > 0)
        close = kp_closest(words[0], known);
    fprintf(stderr, "kprov: unknown command \"%s\": %s%s%skprov --help lists all\n", n ? words[KP_MIN(n, 2) - 1] : argv[1],
            close ? "did you mean \"" : "", close ? close : "", close ? "\"? " : "");
}

/* --lock-timeout, which every command takes, goes to the state by the environment. */
static int take_lock_timeout(int *argc, char **argv)
{
    static const char flag[] = "--lock-timeout";
    int kept = 1, i = 1;
    for (; i < *argc && !kp_streq(argv[i], "--"); i++) {
        bool joined = kp_starts_with(argv[i], "--lock-timeout=");
        if (!joined && !kp_streq(argv[i], flag)) {
            argv[kept++] = argv[i];
            continue;
        }
        const char *value = joined ? argv[i] + sizeof(flag) : i + 1 < *argc ? argv[++i] : "";
        int64_t ns = 0;
        if (kp_parse_duration_ns(value, &ns) < 0 || ns < 0) {
            fprintf(stderr, "kprov: %s \"%s\": must be a time such as 30s or 5m\n", flag, value);
            return KP_EUSAGE;
        }
        setenv(STATE_LOCK_TIMEOUT_ENV, value, 1);
    }
    while (i < *argc)
        argv[kept++] = argv[i++];
    *argc = kept;
    return 0;
}

int cli_main(int argc, char **argv)
{
    struct kp_error error = {0};
    kp_log_init("kprov", KP_LOG_WARNING);
    if (take_lock_timeout(&argc, argv) < 0)
        return kp_code_info(KP_EUSAGE)->exit_status;
    if (argc < 2 || kp_streq(argv[1], "--help") || kp_streq(argv[1], "-h") || kp_streq(argv[1], "help")) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? kp_code_info(KP_EUSAGE)->exit_status : 0;
    }
    if (kp_streq(argv[1], "__complete"))
        return cli_complete(argc - 1, argv + 1, &error);
    if (kp_streq(argv[1], "--version"))
        argv[1] = (char *)"version";
    char two[128];
    snprintf(two, sizeof(two), "%s %s", argv[1], argc > 2 ? argv[2] : "");
    const struct cli_command *command = find_command(argv[1]);
    if (!command && argc > 2)
        command = find_command(two);
    if (!command && argc > 3) {
        KP_AUTO_FREE char *three = kp_asprintf("%s %s", two, argv[3]);
        command = find_command(three);
    }
    if (!command) {
        print_unknown(argc, argv);
        return kp_code_info(KP_EUSAGE)->exit_status;
    }
    int skip = count_words(command->words);
    int r = command->run(argc - skip, argv + skip, &error);
    if (r >= 0)
        return r;
    fprintf(stderr, "kprov: %s\n", error.message);
    if (cli_was_interrupted() && r != KP_ECANCELLED)
        fputs("kprov: interrupted: the same command goes on from here\n", stderr);
    return kp_code_info(cli_was_interrupted() ? KP_ECANCELLED : r)->exit_status;
}
