/* Reads one schema file: a line is one statement, words are separated by blanks, texts stand in quotes. */
#include "apigen.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct words {
    const char *w[GEN_WORD_MAX];
    bool quoted[GEN_WORD_MAX]; /* began with a quote: a text, not a keyword */
    size_t n, at;
};

struct parser {
    const char *path;
    int line;
    struct gen_schema *schema;
    struct gen_type *type;         /* open block */
    struct gen_resource *resource; /* open block */
};

static const char *unquote(struct parser *p, const char **s, char *out, size_t cap)
{
    char quote = *(*s)++;
    size_t len = 0;
    while (**s && **s != quote) {
        if (**s == '\\' && (*s)[1])
            (*s)++;
        if (len + 1 >= cap)
            gen_fail(p->path, p->line, "text too long");
        out[len++] = *(*s)++;
    }
    if (!**s)
        gen_fail(p->path, p->line, "text without an end");
    (*s)++;
    out[len] = '\0';
    return out;
}

/* Splits a line; a quote may also open after `name=`. */
static void split(struct parser *p, const char *s, struct words *words)
{
    memset(words, 0, sizeof(*words));
    for (;;) {
        char word[GEN_LINE_MAX], text[GEN_LINE_MAX];
        size_t len = 0;
        while (isspace((unsigned char)*s))
            s++;
        if (!*s || *s == '#')
            return;
        if (words->n == GEN_WORD_MAX)
            gen_fail(p->path, p->line, "more than %d words", GEN_WORD_MAX);
        words->quoted[words->n] = *s == '"' || *s == '\'';
        while (*s && !isspace((unsigned char)*s)) {
            if (*s == '"' || *s == '\'') {
                unquote(p, &s, text, sizeof(text));
                if (len + strlen(text) >= sizeof(word))
                    gen_fail(p->path, p->line, "word too long");
                memcpy(word + len, text, strlen(text));
                len += strlen(text);
            } else {
                word[len++] = *s++;
            }
        }
        words->w[words->n++] = gen_text("%.*s", (int)len, word);
    }
}

static const char *take(struct parser *p, struct words *words, const char *what)
{
    if (words->at == words->n)
        gen_fail(p->path, p->line, "%s expected", what);
    return words->w[words->at++];
}

static bool more(const struct words *words)
{
    return words->at < words->n;
}

/* The trailing quoted description, taken off the end. */
static const char *take_doc(struct words *words)
{
    if (words->n > words->at && words->quoted[words->n - 1])
        return words->w[--words->n];
    return "";
}

static void parse_schema_line(struct parser *p, struct words *words)
{
    struct gen_schema *schema = p->schema;
    if (schema->name)
        gen_fail(p->path, p->line, "a second schema line");
    schema->name = take(p, words, "name");
    while (more(words)) {
        const char *key = take(p, words, "attribute");
        const char *value = take(p, words, key);
        if (strcmp(key, "group") == 0)
            schema->group = value;
        else if (strcmp(key, "version") == 0)
            schema->version = value;
        else if (strcmp(key, "package") == 0)
            schema->package = value;
        else
            gen_fail(p->path, p->line, "unknown attribute %s", key);
    }
    if (!schema->group || !schema->version || !schema->package)
        gen_fail(p->path, p->line, "schema needs group, version and package");
    char *c_name = gen_text("%s", schema->name);
    for (char *c = c_name; *c; c++)
        *c = *c == '.' ? '_' : *c;
    schema->c_name = c_name;
}

static void add_list_fields(struct gen_type *type)
{
    static const struct {
        const char *json, *type_text;
        int number;
    } standard[] = {{"metadata", "meta.v1.ListMeta", 1}, {"items", NULL, 2}};
    type->fields = gen_alloc(2 * sizeof(*type->fields));
    type->n_fields = 2;
    for (size_t i = 0; i < 2; i++) {
        struct gen_field *field = &type->fields[i];
        field->json = standard[i].json;
        field->c_name = standard[i].json;
        field->number = standard[i].number;
        field->type_text = standard[i].type_text ? standard[i].type_text : type->item_name;
        field->line = type->line;
        field->doc = i == 0 ? "What belongs to the list as a whole." : "The objects.";
    }
    type->fields[0].value = true;
    type->fields[1].card = GEN_LIST;
    type->fields[1].required = type->fields[1].always = true;
}

static void parse_type(struct parser *p, struct words *words, enum gen_form form)
{
    struct gen_type *type = gen_alloc(sizeof(*type));
    type->schema = p->schema;
    type->form = form;
    type->line = p->line;
    bool block = words->n > 0 && strcmp(words->w[words->n - 1], "{") == 0 && !words->quoted[words->n - 1];
    if (block)
        words->n--;
    type->doc = take_doc(words);
    if (form == GEN_UNION)
        type->union_form = take(p, words, "form");
    type->name = take(p, words, "name");
    type->group = p->schema->group;
    type->c_name = gen_snake(type->name);
    while (more(words)) {
        const char *word = take(p, words, "attribute");
        if (strcmp(word, "as") == 0)
            type->c_name = take(p, words, "C name");
        else if (strcmp(word, "group") == 0)
            type->group = take(p, words, "group");
        else if (strcmp(word, "atomic") == 0)
            type->atomic = true;
        else if (strcmp(word, "of") == 0 && form == GEN_LIST_KIND)
            type->item_name = take(p, words, "item type");
        else
            gen_fail(p->path, p->line, "unknown attribute %s", word);
    }
    if (form == GEN_LIST_KIND) {
        if (!type->item_name || block)
            gen_fail(p->path, p->line, "list needs `of` and no block");
        add_list_fields(type);
    } else if (!block) {
        gen_fail(p->path, p->line, "{ expected");
    } else {
        p->type = type;
    }
    p->schema->types = gen_grow(p->schema->types, p->schema->n_types, sizeof(*p->schema->types));
    p->schema->types[p->schema->n_types++] = type;
}

static int parse_int(struct parser *p, const char *text, long min, long max)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end || value < min || value > max)
        gen_fail(p->path, p->line, "%s is not a number from %ld to %ld", text, min, max);
    return (int)value;
}

static void parse_outer(struct parser *p, const char *text, int outer[2])
{
    char *end;
    outer[0] = (int)strtol(text, &end, 10);
    if (*end == '.')
        outer[1] = (int)strtol(end + 1, &end, 10);
    if (*end || outer[0] <= 0 || outer[0] > 255 || outer[1] < 0 || outer[1] > 255)
        gen_fail(p->path, p->line, "bad in=%s", text);
}

static void parse_attribute(struct parser *p, struct gen_field *field, const char *word)
{
    static const struct {
        const char *name;
        size_t offset;
    } flags[] = {
        {"required", offsetof(struct gen_field, required)}, {"value", offsetof(struct gen_field, value)},
        {"omitzero", offsetof(struct gen_field, omitzero)}, {"nullable", offsetof(struct gen_field, nullable)},
        {"always", offsetof(struct gen_field, always)},     {"wrapped", offsetof(struct gen_field, wrapped)},
        {"mapatomic", offsetof(struct gen_field, map_atomic)},
    }, texts[] = {
        {"list=", offsetof(struct gen_field, list_type)},       {"keys=", offsetof(struct gen_field, keys)},
        {"patch=", offsetof(struct gen_field, patch)},          {"merge=", offsetof(struct gen_field, merge)},
        {"default=", offsetof(struct gen_field, default_text)}, {"enum=", offsetof(struct gen_field, enum_text)},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (strcmp(word, flags[i].name) == 0) {
            *(bool *)((char *)field + flags[i].offset) = true;
            return;
        }
    }
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size_t len = strlen(texts[i].name);
        if (strncmp(word, texts[i].name, len) == 0) {
            *(const char **)(void *)((char *)field + texts[i].offset) = word + len;
            return;
        }
    }
    if (strncmp(word, "in=", 3) != 0)
        gen_fail(p->path, p->line, "unknown attribute %s", word);
    parse_outer(p, word + 3, field->outer);
}

static void parse_field(struct parser *p, struct words *words)
{
    struct gen_type *type = p->type;
    type->fields = gen_grow(type->fields, type->n_fields, sizeof(*type->fields));
    struct gen_field *field = &type->fields[type->n_fields++];
    memset(field, 0, sizeof(*field));
    field->line = p->line;
    field->doc = take_doc(words);
    field->json = take(p, words, "field name");
    field->c_name = gen_snake(field->json);
    const char *number = take(p, words, "protobuf number");
    field->number = strcmp(number, "-") == 0 ? 0 : parse_int(p, number, 1, 0x1fffffff);
    const char *text = take(p, words, "type");
    if (strncmp(text, "map[string]", 11) == 0) {
        field->card = GEN_MAP;
        text += 11;
        if (strncmp(text, "[]", 2) == 0) {
            field->list_in_map = true;
            text += 2;
        }
    } else if (strncmp(text, "[]", 2) == 0) {
        field->card = GEN_LIST;
        text += 2;
    }
    field->type_text = text;
    while (more(words))
        parse_attribute(p, field, take(p, words, "attribute"));
}

static void parse_resource(struct parser *p, struct words *words)
{
    struct gen_schema *schema = p->schema;
    schema->resources = gen_grow(schema->resources, schema->n_resources, sizeof(*schema->resources));
    struct gen_resource *resource = &schema->resources[schema->n_resources++];
    memset(resource, 0, sizeof(*resource));
    resource->line = p->line;
    resource->name = take(p, words, "name");
    resource->short_names = resource->categories = "";
    const char *scope = "";
    while (more(words)) {
        const char *key = take(p, words, "attribute");
        if (strcmp(key, "{") == 0)
            break;
        const char *value = take(p, words, key);
        if (strcmp(key, "singular") == 0)
            resource->singular = strcmp(value, "-") == 0 ? "" : value;
        else if (strcmp(key, "kind") == 0)
            resource->kind = value;
        else if (strcmp(key, "scope") == 0)
            scope = value;
        else if (strcmp(key, "verbs") == 0)
            resource->verbs = value;
        else if (strcmp(key, "short") == 0)
            resource->short_names = value;
        else if (strcmp(key, "categories") == 0)
            resource->categories = value;
        else if (strcmp(key, "table") == 0)
            resource->table = value;
        else
            gen_fail(p->path, p->line, "unknown attribute %s", key);
    }
    if (!resource->singular || !resource->kind || !resource->verbs)
        gen_fail(p->path, p->line, "resource needs singular, kind and verbs");
    if (strcmp(scope, "namespaced") != 0 && strcmp(scope, "cluster") != 0)
        gen_fail(p->path, p->line, "scope is namespaced or cluster");
    resource->namespaced = strcmp(scope, "namespaced") == 0;
    p->resource = resource;
}

static void parse_sub(struct parser *p, struct words *words)
{
    struct gen_resource *resource = p->resource;
    resource->subs = gen_grow(resource->subs, resource->n_subs, sizeof(*resource->subs));
    struct gen_sub *sub = &resource->subs[resource->n_subs++];
    memset(sub, 0, sizeof(*sub));
    sub->name = take(p, words, "name");
    sub->verbs = take(p, words, "verbs");
    sub->group = p->schema->group;
    sub->version = p->schema->version;
    sub->kind = resource->kind;
    if (!more(words))
        return;
    const char *body = take(p, words, "body");
    const char *slash = strchr(body, '/');
    if (slash) { /* group/version.Kind; groups have dots, so look after the slash */
        const char *dot = strchr(slash, '.');
        if (!dot)
            gen_fail(p->path, p->line, "body is group/version.Kind");
        sub->group = gen_text("%.*s", (int)(slash - body), body);
        sub->version = gen_text("%.*s", (int)(dot - slash - 1), slash + 1);
        body = dot + 1;
    }
    sub->kind = body;
}

static void parse_column(struct parser *p, struct words *words)
{
    struct gen_resource *resource = p->resource;
    resource->columns = gen_grow(resource->columns, resource->n_columns, sizeof(*resource->columns));
    struct gen_column *column = &resource->columns[resource->n_columns++];
    column->name = take(p, words, "name");
    column->type = take(p, words, "type");
    column->format = take(p, words, "format");
    if (strcmp(column->format, "-") == 0)
        column->format = "";
    column->priority = parse_int(p, take(p, words, "priority"), 0, 1);
    column->doc = more(words) ? take(p, words, "description") : "";
}

static void parse_line(struct parser *p, const char *text)
{
    struct words words;
    split(p, text, &words);
    if (words.n == 0)
        return;
    if (words.n == 1 && strcmp(words.w[0], "}") == 0) {
        if (!p->type && !p->resource)
            gen_fail(p->path, p->line, "} without a block");
        p->type = NULL;
        p->resource = NULL;
        return;
    }
    if (p->type) {
        parse_field(p, &words);
        return;
    }
    const char *word = take(p, &words, "statement");
    if (p->resource && strcmp(word, "sub") == 0)
        parse_sub(p, &words);
    else if (p->resource && strcmp(word, "column") == 0)
        parse_column(p, &words);
    else if (p->resource)
        gen_fail(p->path, p->line, "sub or column expected, not %s", word);
    else if (strcmp(word, "schema") == 0)
        parse_schema_line(p, &words);
    else if (!p->schema->name)
        gen_fail(p->path, p->line, "a file starts with its schema line");
    else if (strcmp(word, "type") == 0)
        parse_type(p, &words, GEN_TYPE);
    else if (strcmp(word, "kind") == 0)
        parse_type(p, &words, GEN_KIND);
    else if (strcmp(word, "list") == 0)
        parse_type(p, &words, GEN_LIST_KIND);
    else if (strcmp(word, "union") == 0)
        parse_type(p, &words, GEN_UNION);
    else if (strcmp(word, "resource") == 0)
        parse_resource(p, &words);
    else
        gen_fail(p->path, p->line, "unknown statement %s", word);
}

struct gen_schema *gen_parse(const char *path)
{
    FILE *file = fopen(path, "r");
    if (!file)
        gen_fail(path, 0, "cannot open");
    struct parser p = {.path = path, .schema = gen_alloc(sizeof(*p.schema))};
    p.schema->path = path;
    char text[GEN_LINE_MAX];
    while (fgets(text, sizeof(text), file)) {
        p.line++;
        if (!strchr(text, '\n') && !feof(file))
            gen_fail(path, p.line, "line longer than %d", GEN_LINE_MAX);
        parse_line(&p, text);
    }
    fclose(file);
    if (p.type || p.resource)
        gen_fail(path, p.line, "block without an end");
    if (!p.schema->name)
        gen_fail(path, p.line, "no schema line");
    return p.schema;
}
