/* Completion scripts, made from the table of commands. */
#include "provisioner/cli/cli.h"

static bool is_first(const struct cli_command *command, size_t len)
{
    for (const struct cli_command *other = cli_commands; other != command; other++) {
        if (strcspn(other->words, " ") == len && memcmp(other->words, command->words, len) == 0)
            return false;
    }
    return true;
}

/* The first words, each once; or the second words after `first`. */
static void word_list(const char *first, struct kp_buf *out)
{
    for (const struct cli_command *command = cli_commands; command->words; command++) {
        size_t len = strcspn(command->words, " ");
        if (!first && is_first(command, len))
            kp_buf_printf(out, "%s%.*s", out->len ? " " : "", (int)len, command->words);
        else if (first && strlen(first) == len && memcmp(first, command->words, len) == 0 && command->words[len])
            kp_buf_printf(out, "%s%s", out->len ? " " : "", command->words + len + 1);
    }
}

static void print_cases(const char *format)
{
    static const char *const groups[] = {"create", "delete", "get", "node", "image"};
    for (size_t i = 0; i < KP_ARRAY_LEN(groups); i++) {
        KP_AUTO_BUF struct kp_buf seconds = {0};
        word_list(groups[i], &seconds);
        if (kp_streq(format, "fish"))
            printf("complete -c kprov -n '__fish_seen_subcommand_from %s' -a '%s'\n", groups[i], seconds.data);
        else
            printf("    %s) words='%s' ;;\n", groups[i], seconds.data);
    }
}

static void print_posix(bool zsh, const char *firsts)
{
    static const char *const names = "$(kprov get clusters 2>/dev/null | awk 'NR > 1 { print $1 }')";
    if (zsh)
        printf("#compdef kprov\nautoload -U +X bashcompinit && bashcompinit\n");
    printf("_kprov() {\n  local words=''\n  case $COMP_CWORD in\n  1) words='%s' ;;\n  2) case ${COMP_WORDS[1]} in\n", firsts);
    print_cases("posix");
    printf("    kubeconfig|logs|exec|ssh) words=\"%s\" ;;\n    completion) words='bash zsh fish' ;;\n    esac ;;\n", names);
    printf("  3) words=\"%s\" ;;\n  esac\n", names);
    printf("  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -F _kprov kprov\n");
}

int cli_completion(int argc, char **argv, struct kp_error *error)
{
    const struct kp_flag flags[] = {{0}};
    struct kp_strings rest = {0};
    bool help = false;
    KP_AUTO_BUF struct kp_buf firsts = {0};
    int r = cli_parse("completion", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("completion", &rest, 1, 1, error);
    if (r == 0 && !help) {
        word_list(NULL, &firsts);
        if (kp_streq(rest.items[0], "bash") || kp_streq(rest.items[0], "zsh")) {
            print_posix(kp_streq(rest.items[0], "zsh"), firsts.data);
        } else if (kp_streq(rest.items[0], "fish")) {
            printf("complete -c kprov -f -n '__fish_use_subcommand' -a '%s'\n", firsts.data);
            print_cases("fish");
        } else {
            r = kp_fail(error, KP_EUSAGE, "shell \"%s\": must be bash, zsh or fish", rest.items[0]);
        }
    }
    kp_strings_done(&rest);
    return r;
}
