/* Shell completion: scripts that ask `kprov __complete` for the words that may come next, and that command. */
#include "provisioner/cli/cli.h"

#define WORDS_MAX 64
#define HELP_MS 5000

/* ---- the scripts */

static const char bash_script[] =
    "_kprov() {\n"
    "  local IFS=$'\\n'\n"
    "  COMPREPLY=($(compgen -W \"$(kprov __complete -- \"${COMP_WORDS[@]:1:COMP_CWORD-1}\" 2>/dev/null)\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
    "}\n"
    "complete -o default -F _kprov kprov\n";
static const char zsh_script[] =
    "#compdef kprov\n"
    "_kprov() {\n"
    "  local -a words_next\n"
    "  words_next=(${(f)\"$(kprov __complete -- \"${(@)words[2,CURRENT-1]}\" 2>/dev/null)\"})\n"
    "  if (( ${#words_next} )); then compadd -a words_next; else _files; fi\n"
    "}\n"
    "compdef _kprov kprov\n";
static const char fish_script[] =
    "function __kprov_next\n"
    "  set -l words (commandline -opc)\n"
    "  kprov __complete -- $words[2..-1] 2>/dev/null\n"
    "end\n"
    "complete -c kprov -f -a '(__kprov_next)'\n";

/* ---- what may come next */

/* The words that follow those given in the table of commands, each once. */
static bool next_words(const struct kp_strings *given, struct kp_strings *ret)
{
    for (const struct cli_command *command = cli_commands; command->words; command++) {
        const char *at = command->words;
        size_t i = 0;
        for (; i < given->len && at; i++) {
            size_t len = strcspn(at, " ");
            bool same = strlen(given->items[i]) == len && memcmp(at, given->items[i], len) == 0;
            at = !same ? NULL : at[len] ? at + len + 1 : at + len;
        }
        if (!at || !*at)
            continue;
        KP_AUTO_FREE char *word = kp_strndup(at, strcspn(at, " "));
        bool seen = false;
        for (size_t j = 0; j < ret->len; j++)
            seen |= kp_streq(ret->items[j], word);
        if (!seen)
            kp_strings_add(ret, word);
    }
    return ret->len > 0;
}

static const struct cli_command *command_of(const struct kp_strings *given, size_t *ret_used)
{
    for (const struct cli_command *command = cli_commands; command->words; command++) {
        const char *at = command->words;
        size_t i = 0;
        for (; i < given->len && at && *at; i++) {
            size_t len = strcspn(at, " ");
            bool same = strlen(given->items[i]) == len && memcmp(at, given->items[i], len) == 0;
            at = !same ? NULL : at[len] ? at + len + 1 : at + len;
        }
        if (at && !*at) {
            *ret_used = i;
            return command;
        }
    }
    return NULL;
}

/* The nth word of the usage that is no flag: "CLUSTER NODE [COMPONENT] [-f]" -> "CLUSTER", "NODE", "COMPONENT". */
static void placeholder(const char *usage, size_t n, char *ret, size_t size)
{
    size_t depth = 0;
    ret[0] = 0;
    for (const char *at = usage; *at;) {
        size_t len = strcspn(at, " ");
        bool flag = depth > 0 || at[0] == '-' || (at[0] == '[' && at[1] == '-');
        for (size_t i = 0; i < len; i++)
            depth += at[i] == '[' ? 1 : 0;
        for (size_t i = 0; i < len; i++)
            depth -= at[i] == ']' && depth > 0 ? 1 : 0;
        /* The value of a flag that must be given, as in "-f FILE". */
        bool value = at > usage && at[0] != '[' && at[-1] == ' ' && at >= usage + 3 && at[-3] == '-';
        if (!flag && !value && n-- == 0) {
            const char *from = at + (at[0] == '[');
            snprintf(ret, size, "%.*s", (int)(strcspn(from, " ].")), from);
            return;
        }
        at += len + (at[len] == ' ');
    }
}

static void add_nodes(const char *cluster, struct kp_strings *ret)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster state;
    struct cloud_machine_list machines;
    size_t prefix = strlen(cluster) + 1;
    if (cli_cluster_open(cluster, arena, &state, &cloud, NULL) < 0 || cloud_machine_list(cloud, state.uid, arena, &machines, NULL) < 0)
        return; /* nothing to offer */
    for (size_t i = 0; i < machines.len; i++)
        kp_strings_add(ret, strlen(machines.items[i].name) > prefix ? machines.items[i].name + prefix : machines.items[i].name);
}

static void add_pools(const char *cluster, struct kp_strings *ret)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct state_cluster state;
    if (state_read(cluster, arena, &state, NULL) < 0)
        return;
    for (size_t i = 0; i < state.config.n_pools; i++)
        kp_strings_add(ret, state.config.pools[i].name);
}

/* The flags of a command, as its own help has them. */
static void add_flags(const struct cli_command *command, struct kp_strings *ret)
{
    const char *argv[WORDS_MAX] = {"/proc/self/exe"};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf out = {0};
    size_t n = 1;
    int status = 0;
    for (const char *at = command->words; *at;) {
        size_t len = strcspn(at, " ");
        argv[n++] = kp_arena_strndup(arena, at, len);
        at += len + (at[len] == ' ');
    }
    argv[n] = "--help";
    if (kp_run(argv, HELP_MS, &out, NULL, &status, NULL) < 0 || !out.data)
        return;
    for (const char *at = out.data; (at = strstr(at, "--")) != NULL;) {
        size_t len = 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz0123456789-");
        const char *line = at;
        while (line > out.data && line[-1] != '\n')
            line--;
        /* "  -f, --file ..." begins a flag's line; anywhere else it is prose. */
        if (len > 2 && strspn(line, " ") >= 2 && (size_t)(at - line) <= 8 && line[strspn(line, " ")] == '-') {
            KP_AUTO_FREE char *flag = kp_strndup(at, len);
            kp_strings_add(ret, flag);
        }
        at += len;
    }
}

static void complete(const struct kp_strings *given, struct kp_strings *ret)
{
    size_t used = 0, position = 0;
    char what[64];
    const char *cluster = NULL;
    if (next_words(given, ret))
        return;
    const struct cli_command *command = command_of(given, &used);
    if (!command)
        return;
    const char *last = given->len ? given->items[given->len - 1] : "";
    if ((kp_streq(last, "--cluster") || kp_streq(last, "-c")) && state_list(ret, NULL) == 0)
        return;
    for (size_t i = used; i < given->len; i++) {
        if (given->items[i][0] == '-')
            continue;
        if (position++ == 0)
            cluster = given->items[i];
    }
    placeholder(command->usage, position, what, sizeof(what));
    if ((kp_streq(what, "CLUSTER") || kp_streq(what, "NAME")) && !kp_starts_with(command->words, "create")) {
        if (state_list(ret, NULL) < 0)
            return;
    } else if (kp_streq(what, "NODE") && cluster) {
        add_nodes(cluster, ret);
    } else if (kp_streq(what, "POOL") && cluster) {
        add_pools(cluster, ret);
    } else if (strchr(what, '|') && !kp_starts_with(what, "FILE")) {
        for (const char *at = what; *at;) {
            KP_AUTO_FREE char *word = kp_strndup(at, strcspn(at, "|"));
            kp_strings_add(ret, word);
            at += strlen(word) + (at[strlen(word)] == '|');
        }
    }
    add_flags(command, ret);
}

int cli_complete(int argc, char **argv, struct kp_error *error)
{
    struct kp_strings given = {0}, found = {0};
    int from = argc > 1 && kp_streq(argv[1], "--") ? 2 : 1;
    for (int i = from; i < argc && i < from + WORDS_MAX; i++)
        kp_strings_add(&given, argv[i]);
    complete(&given, &found);
    for (size_t i = 0; i < found.len; i++)
        printf("%s\n", found.items[i]);
    kp_strings_done(&given);
    kp_strings_done(&found);
    return 0;
}

int cli_completion(int argc, char **argv, struct kp_error *error)
{
    static const struct {
        const char *shell, *script;
    } scripts[] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    const struct kp_flag flags[] = {{0}};
    struct kp_strings rest = {0};
    bool help = false;
    int r = cli_parse("completion", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("completion", &rest, 1, 1, error);
    if (r == 0 && !help) {
        size_t i = 0;
        while (i < KP_ARRAY_LEN(scripts) && !kp_streq(scripts[i].shell, rest.items[0]))
            i++;
        if (i < KP_ARRAY_LEN(scripts))
            fputs(scripts[i].script, stdout);
        else
            r = kp_fail(error, KP_EUSAGE, "shell \"%s\": must be bash, zsh or fish", rest.items[0]);
    }
    kp_strings_done(&rest);
    return r;
}
