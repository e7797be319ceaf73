/* apigen -o DIR a.schema b.schema ...: writes DIR/<schema>.h and DIR/<schema>.c for each, DIR/k8s.h and DIR/k8s.c over all. */
#include "apigen.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The end of the process frees the model: a sanitizer build must not call that a leak. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

_Noreturn void gen_fail(const char *path, int line, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "%s:%d: ", path, line);
    vfprintf(stderr, format, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

void *gen_alloc(size_t size)
{
    void *p = calloc(1, size);
    if (!p)
        gen_fail("apigen", 0, "out of memory");
    return p;
}

char *gen_text(const char *format, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, format);
    if (vasprintf(&text, format, ap) < 0)
        gen_fail("apigen", 0, "out of memory");
    va_end(ap);
    return text;
}

void *gen_grow(void *items, size_t len, size_t item_size)
{
    if (len != 0 && (len & (len - 1)) != 0)
        return items;
    void *grown = realloc(items, (len ? 2 * len : 1) * item_size);
    if (!grown)
        gen_fail("apigen", 0, "out of memory");
    return grown;
}

/* Words end before an upper-case letter that starts a word; "IPs" and "URLs" are one word. */
char *gen_snake(const char *name)
{
    size_t len = strlen(name), n = 0;
    char *out = gen_alloc(2 * len + 1);
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (c == '$')
            continue;
        if (c == '-' || c == '.') {
            out[n++] = '_';
            continue;
        }
        bool plural_next = name[i + 1] == 's' && (name[i + 2] == '\0' || isupper((unsigned char)name[i + 2]));
        bool after_lower = i > 0 && (islower((unsigned char)name[i - 1]) || isdigit((unsigned char)name[i - 1]));
        bool before_lower = islower((unsigned char)name[i + 1]) && i > 0 && isupper((unsigned char)name[i - 1]) && !plural_next;
        if (isupper((unsigned char)c) && (after_lower || before_lower))
            out[n++] = '_';
        out[n++] = (char)tolower((unsigned char)c);
    }
    return out;
}

static FILE *create(const char *dir, const char *name)
{
    const char *path = gen_text("%s/%s", dir, name);
    FILE *out = fopen(path, "w");
    if (!out)
        gen_fail(path, 0, "cannot create: %s", strerror(errno));
    fprintf(out, "/* Made by apigen from the schemas in api/: do not edit. */\n");
    return out;
}

static void finish(FILE *out, const char *what)
{
    if (ferror(out) || fclose(out) != 0)
        gen_fail(what, 0, "write failed: %s", strerror(errno));
}

int main(int argc, char **argv)
{
    if (argc < 4 || strcmp(argv[1], "-o") != 0) {
        fprintf(stderr, "usage: apigen -o DIR SCHEMA...\n");
        return 2;
    }
    const char *dir = argv[2];
    struct gen_model model = {0};
    for (int i = 3; i < argc; i++) {
        if (model.n_schemas == GEN_SCHEMAS_MAX)
            gen_fail(argv[i], 0, "more than %d schemas", GEN_SCHEMAS_MAX);
        model.schemas[model.n_schemas++] = gen_parse(argv[i]);
    }
    gen_resolve(&model);
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        gen_fail(dir, 0, "cannot create: %s", strerror(errno));
    for (size_t i = 0; i < model.n_schemas; i++) {
        const struct gen_schema *schema = model.schemas[i];
        FILE *out = create(dir, gen_text("%s.h", schema->name));
        gen_write_header(&model, schema, out);
        finish(out, schema->c_name);
        out = create(dir, gen_text("%s.c", schema->name));
        gen_write_tables(schema, out);
        finish(out, schema->c_name);
    }
    FILE *out = create(dir, "k8s.h");
    gen_write_umbrella(&model, out);
    finish(out, "k8s.h");
    out = create(dir, "k8s.c");
    gen_write_index(&model, out);
    finish(out, "k8s.c");
    return 0;
}
