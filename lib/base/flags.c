/* Command lines: flags in the upstream spelling, and lists of strings. */
#include "lib/base/base.h"

void kp_strings_add(struct kp_strings *strings, const char *s)
{
    strings->items = kp_realloc(strings->items, (strings->len + 1) * sizeof(*strings->items));
    strings->items[strings->len++] = kp_strdup(s);
}

void kp_strings_done(struct kp_strings *strings)
{
    for (size_t i = 0; i < strings->len; i++)
        free(strings->items[i]);
    free(strings->items);
    *strings = (struct kp_strings){0};
}

static int parse_bool(const char *s, bool *ret_value)
{
    static const char *const yes[] = {"true", "1", "t", "T", "TRUE", "True"};
    static const char *const no[] = {"false", "0", "f", "F", "FALSE", "False"};
    for (size_t i = 0; i < KP_ARRAY_LEN(yes); i++) {
        if (kp_streq(s, yes[i]) || kp_streq(s, no[i])) {
            *ret_value = kp_streq(s, yes[i]);
            return 0;
        }
    }
    return KP_EBADREQUEST;
}

static int flag_set(const struct kp_flag *flag, const char *text, const char *shown, struct kp_error *error)
{
    switch (flag->kind) {
    case KP_FLAG_STRING:
        *(const char **)flag->value = text;
        return 0;
    case KP_FLAG_STRINGS:
        kp_strings_add(flag->value, text);
        return 0;
    case KP_FLAG_BOOL:
        if (parse_bool(text, flag->value) == 0)
            return 0;
        return kp_fail(error, KP_EUSAGE, "invalid value \"%s\" for %s: must be true or false", text, shown);
    case KP_FLAG_I64:
        if (kp_parse_i64(text, flag->value) == 0)
            return 0;
        return kp_fail(error, KP_EUSAGE, "invalid value \"%s\" for %s: must be a whole number", text, shown);
    case KP_FLAG_DURATION:
        if (kp_parse_duration_ns(text, flag->value) == 0)
            return 0;
        return kp_fail(error, KP_EUSAGE, "invalid value \"%s\" for %s: must be a duration such as 1m30s", text, shown);
    }
    return kp_fail(error, KP_EINTERNAL, "flag %s has an unknown kind", shown);
}

static const struct kp_flag *flag_by_name(const struct kp_flag *flags, const char *name, size_t len)
{
    for (; flags->name; flags++) {
        if (strlen(flags->name) == len && memcmp(flags->name, name, len) == 0)
            return flags;
    }
    return NULL;
}

static const struct kp_flag *flag_by_letter(const struct kp_flag *flags, char letter)
{
    for (; flags->name; flags++) {
        if (flags->short_name == letter)
            return flags;
    }
    return NULL;
}

struct parser {
    const struct kp_flag *flags;
    int argc, at;
    char **argv;
    bool *seen; /* one per flag */
    struct kp_error *error;
};

static int take_value(struct parser *p, const struct kp_flag *flag, const char *attached, const char *shown)
{
    p->seen[flag - p->flags] = true;
    if (attached)
        return flag_set(flag, attached, shown, p->error);
    if (flag->kind == KP_FLAG_BOOL)
        return flag_set(flag, "true", shown, p->error);
    if (p->at + 1 >= p->argc)
        return kp_fail(p->error, KP_EUSAGE, "flag needs an argument: %s", shown);
    return flag_set(flag, p->argv[++p->at], shown, p->error);
}

static int parse_long(struct parser *p, const char *word, bool *ret_help)
{
    const char *name = word + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct kp_flag *flag = flag_by_name(p->flags, name, len);
    char shown[128];
    snprintf(shown, sizeof(shown), "--%.*s", (int)KP_MIN(len, (size_t)100), name);
    if (flag)
        return take_value(p, flag, equals ? equals + 1 : NULL, shown);
    if (ret_help && strcmp(name, "help") == 0) {
        *ret_help = true;
        return 0;
    }
    return kp_fail(p->error, KP_EUSAGE, "unknown flag: %s", shown);
}

/* "-f value", "-fvalue", "-f=value", and boolean letters together as in "-it". */
static int parse_short(struct parser *p, const char *word, bool *ret_help)
{
    for (const char *letter = word + 1; *letter; letter++) {
        const struct kp_flag *flag = flag_by_letter(p->flags, *letter);
        char shown[] = {'-', *letter, '\0'};
        if (!flag && *letter == 'h' && ret_help) {
            *ret_help = true;
            continue;
        }
        if (!flag)
            return kp_fail(p->error, KP_EUSAGE, "unknown shorthand flag: '%c' in %s", *letter, word);
        const char *rest = letter[1] ? letter + 1 : NULL;
        if (rest && *rest == '=')
            return take_value(p, flag, rest + 1, shown);
        if (flag->kind != KP_FLAG_BOOL)
            return take_value(p, flag, rest, shown);
        int rc = take_value(p, flag, NULL, shown);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take_rest(struct parser *p, struct kp_strings *ret_rest, const char *word)
{
    if (!ret_rest)
        return kp_fail(p->error, KP_EUSAGE, "unexpected argument: %s", word);
    kp_strings_add(ret_rest, word);
    return 0;
}

static int parse_words(struct parser *p, struct kp_strings *ret_rest, bool *ret_help)
{
    bool only_rest = false;
    for (p->at = 1; p->at < p->argc; p->at++) {
        const char *word = p->argv[p->at];
        int rc;
        if (!only_rest && strcmp(word, "--") == 0) {
            only_rest = true;
            continue;
        }
        if (only_rest || word[0] != '-' || !word[1])
            rc = take_rest(p, ret_rest, word);
        else if (word[1] == '-')
            rc = parse_long(p, word, ret_help);
        else
            rc = parse_short(p, word, ret_help);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int kp_flags_parse(const struct kp_flag *flags, int argc, char **argv, struct kp_strings *ret_rest, bool *ret_help,
                   struct kp_error *error)
{
    size_t count = 0;
    while (flags[count].name)
        count++;
    KP_AUTO_FREE bool *seen = kp_calloc(count + 1, sizeof(*seen));
    struct parser p = {.flags = flags, .argc = argc, .argv = argv, .seen = seen, .error = error};
    int rc = parse_words(&p, ret_rest, ret_help);
    for (size_t i = 0; i < count && rc == 0; i++) {
        const char *text = flags[i].env && !seen[i] ? getenv(flags[i].env) : NULL;
        if (!kp_empty(text))
            rc = flag_set(&flags[i], text, flags[i].env, error);
    }
    return rc;
}

void kp_flags_print(const struct kp_flag *flags, FILE *out)
{
    static const char *const kinds[] = {
        [KP_FLAG_STRING] = "string", [KP_FLAG_BOOL] = "",         [KP_FLAG_I64] = "int",
        [KP_FLAG_DURATION] = "duration", [KP_FLAG_STRINGS] = "strings",
    };
    for (; flags->name; flags++) {
        char left[160];
        if (flags->short_name)
            snprintf(left, sizeof(left), "  -%c, --%s %s", flags->short_name, flags->name, kinds[flags->kind]);
        else
            snprintf(left, sizeof(left), "      --%s %s", flags->name, kinds[flags->kind]);
        fprintf(out, "%-40s %s", left, flags->help ? flags->help : "");
        if (flags->env)
            fprintf(out, " [$%s]", flags->env);
        fputc('\n', out);
    }
}
