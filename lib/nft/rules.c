/* Rule sets of a table as nft scripts: the whole table, or the difference of two. */
#include "lib/nft/nft.h"

struct nft_rules {
    struct kp_strmap *chains;   /* name -> char *: rules, one a line */
    struct kp_strmap *elements; /* "map|key" -> char *: verdict, "" in sets */
};

struct nft_rules *nft_rules_new(void)
{
    struct nft_rules *rules = kp_calloc(1, sizeof(*rules));
    rules->chains = kp_strmap_new();
    rules->elements = kp_strmap_new();
    return rules;
}

void nft_rules_free(struct nft_rules *rules)
{
    if (!rules)
        return;
    kp_strmap_free(rules->chains, free);
    kp_strmap_free(rules->elements, free);
    free(rules);
}

void nft_rules_add_chain(struct nft_rules *rules, const char *name, const char *body)
{
    free(kp_strmap_put(rules->chains, name, kp_strdup(body)));
}

void nft_rules_add_element(struct nft_rules *rules, const char *map, const char *key, const char *verdict)
{
    KP_AUTO_FREE char *full = kp_asprintf("%s|%s", map, key);
    if (!kp_strmap_get(rules->elements, full))
        kp_strmap_put(rules->elements, full, kp_strdup(verdict ? verdict : ""));
}

bool nft_rules_has_chain(const struct nft_rules *rules, const char *name)
{
    return kp_strmap_get(rules->chains, name) != NULL;
}

static void add_rules(struct kp_buf *out, const char *table, const char *chain, const char *body)
{
    for (const char *line = body; *line;) {
        size_t len = strcspn(line, "\n");
        kp_buf_printf(out, "add rule %s %s %.*s\n", table, chain, (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static void element(struct kp_buf *out, const char *table, const char *verb, const char *full, const char *verdict)
{
    const char *bar = strchr(full, '|');
    kp_buf_printf(out, "%s element %s %.*s { %s", verb, table, (int)(bar - full), full, bar + 1);
    if (!kp_empty(verdict))
        kp_buf_printf(out, " : %s", verdict);
    kp_buf_puts(out, " }\n");
}

/* Order matters: chains first, so that verdicts find them; elements that go, then those that come (a changed one is both);
   chains that nobody names any more last. */
void nft_rules_script(const char *table, const char *base, const struct nft_rules *old, const struct nft_rules *new, struct kp_buf *out)
{
    size_t iter;
    const char *key;
    void *value;
    if (!old)
        kp_buf_printf(out, "add table %s\ndelete table %s\nadd table %s\n%s", table, table, table, base);
    for (iter = 0; kp_strmap_next(new->chains, &iter, &key, &value);)
        if (!old || !kp_strmap_get(old->chains, key))
            kp_buf_printf(out, "add chain %s %s\n", table, key);
    for (iter = 0; kp_strmap_next(new->chains, &iter, &key, &value);) {
        const char *before = old ? kp_strmap_get(old->chains, key) : NULL;
        if (before && strcmp(before, value) == 0)
            continue;
        if (before)
            kp_buf_printf(out, "flush chain %s %s\n", table, key);
        add_rules(out, table, key, value);
    }
    for (iter = 0; old && kp_strmap_next(old->elements, &iter, &key, &value);) {
        const char *now = kp_strmap_get(new->elements, key);
        if (!now || strcmp(now, value) != 0)
            element(out, table, "delete", key, value);
    }
    for (iter = 0; kp_strmap_next(new->elements, &iter, &key, &value);) {
        const char *before = old ? kp_strmap_get(old->elements, key) : NULL;
        if (!before || strcmp(before, value) != 0)
            element(out, table, "add", key, value);
    }
    for (iter = 0; old && kp_strmap_next(old->chains, &iter, &key, &value);)
        if (!kp_strmap_get(new->chains, key))
            kp_buf_printf(out, "flush chain %s %s\n", table, key);
    for (iter = 0; old && kp_strmap_next(old->chains, &iter, &key, &value);)
        if (!kp_strmap_get(new->chains, key))
            kp_buf_printf(out, "delete chain %s %s\n", table, key);
}
