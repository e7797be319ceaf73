/* Results in etcdutl's forms. */
#include "controlplane/etcd/tools/tools_internal.h"

bool tools_parse_format(const char *text, enum tools_format *ret_format)
{
    static const char *const names[] = {"simple", "json", "table", "fields"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (kp_streq(text, names[i])) {
            *ret_format = (enum tools_format)i;
            return true;
        }
    return false;
}

void tools_humanize(uint64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    if (bytes < 10) {
        snprintf(out, 24, "%llu B", (unsigned long long)bytes);
        return;
    }
    size_t unit = 0;
    uint64_t scale = 1;
    while (unit + 1 < KP_ARRAY_LEN(units) && bytes / scale >= 1000) {
        scale *= 1000;
        unit++;
    }
    double tenths = (double)(uint64_t)((double)bytes / (double)scale * 10 + 0.5) / 10;
    snprintf(out, 24, tenths < 10 ? "%.1f %s" : "%.0f %s", tenths, units[unit]);
}

static void print_line(FILE *out, const size_t *widths, size_t columns)
{
    for (size_t i = 0; i < columns; i++) {
        fputc('+', out);
        for (size_t n = 0; n < widths[i] + 2; n++)
            fputc('-', out);
    }
    fputs("+\n", out);
}

/* Headings in the middle, values to the right. */
static void print_table(FILE *out, const char *const *heads, char (*cells)[32], size_t columns)
{
    size_t widths[TOOLS_COLUMNS_MAX];
    for (size_t i = 0; i < columns; i++)
        widths[i] = KP_MAX(strlen(heads[i]), strlen(cells[i]));
    print_line(out, widths, columns);
    for (size_t i = 0; i < columns; i++) {
        size_t room = widths[i] - strlen(heads[i]), left = room / 2;
        fprintf(out, "| %*s%s%*s ", (int)left, "", heads[i], (int)(room - left), "");
    }
    fputs("|\n", out);
    print_line(out, widths, columns);
    for (size_t i = 0; i < columns; i++)
        fprintf(out, "| %*s ", (int)widths[i], cells[i]);
    fputs("|\n", out);
    print_line(out, widths, columns);
}

static void print_simple(FILE *out, char (*cells)[32], size_t columns)
{
    for (size_t i = 0; i < columns; i++)
        fprintf(out, "%s%s", i ? ", " : "", cells[i]);
    fputc('\n', out);
}

/* As 3.5 prints it, which knows no version, unless the snapshot has one: then as 3.6. */
void tools_print_status(FILE *out, enum tools_format format, const struct snapshot_status *status)
{
    static const char *const heads[] = {"HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"};
    long long revision = status->revision, keys = status->total_keys, size = status->total_size;
    bool versioned = status->version[0];
    if (format == TOOLS_JSON) {
        fprintf(out, "{\"hash\":%u,\"revision\":%lld,\"totalKey\":%lld,\"totalSize\":%lld", status->hash, revision,
                keys, size);
        if (versioned)
            fprintf(out, ",\"version\":\"%s\"", status->version);
        fputs("}\n", out);
        return;
    }
    if (format == TOOLS_FIELDS) {
        fprintf(out, "\"Hash\" : %u\n\"Revision\" : %lld\n\"Keys\" : %lld\n\"Size\" : %lld\n", status->hash,
                revision, keys, size);
        if (versioned)
            fprintf(out, "\"Version\" : %s\n", status->version);
        return;
    }
    char cells[5][32];
    snprintf(cells[0], sizeof cells[0], "%x", status->hash);
    snprintf(cells[1], sizeof cells[1], "%lld", revision);
    snprintf(cells[2], sizeof cells[2], "%lld", keys);
    tools_humanize((uint64_t)size, cells[3]);
    snprintf(cells[4], sizeof cells[4], "%s", status->version);
    size_t columns = versioned ? 5 : 4;
    if (format == TOOLS_TABLE)
        print_table(out, heads, cells, columns);
    else
        print_simple(out, cells, columns);
}

void tools_print_hash(FILE *out, enum tools_format format, const struct hash_result *result)
{
    static const char *const heads[] = {"HASH", "HASH REVISION", "COMPACT REVISION"};
    long long revision = result->hash_revision, compact = result->compact_revision;
    if (format == TOOLS_JSON) {
        fprintf(out, "{\"hash\":%u,\"hashRevision\":%lld,\"compactRevision\":%lld}\n", result->hash, revision, compact);
        return;
    }
    if (format == TOOLS_FIELDS) {
        fprintf(out, "\"Hash\" : %u\n\"Hash revision\" : %lld\n\"Compact revision\" : %lld\n", result->hash, revision,
                compact);
        return;
    }
    char cells[3][32];
    snprintf(cells[0], sizeof cells[0], "%u", result->hash);
    snprintf(cells[1], sizeof cells[1], "%lld", revision);
    snprintf(cells[2], sizeof cells[2], "%lld", compact);
    if (format == TOOLS_TABLE)
        print_table(out, heads, cells, KP_ARRAY_LEN(cells));
    else
        print_simple(out, cells, KP_ARRAY_LEN(cells));
}
