/* Tables, JSON and YAML on stdout. */
#include "provisioner/cli/cli.h"

#include <ctype.h>

#define COLUMNS_MAX 16
#define COLUMN_GAP 3

int cli_output_parse(const char *text, enum cli_output *ret, struct kp_error *error)
{
    static const char *const names[] = {[CLI_TABLE] = "table", [CLI_JSON] = "json", [CLI_YAML] = "yaml"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        if (kp_streq(names[i], text)) {
            *ret = (enum cli_output)i;
            return 0;
        }
    }
    return kp_fail(error, KP_EUSAGE, "output \"%s\": must be table, json or yaml", text);
}

void cli_print_value(const struct kp_value *value, enum cli_output output)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    if (output == CLI_YAML)
        kp_yaml_print(value, &text);
    else
        kp_value_print_pretty(value, 2, &text);
    fwrite(text.data, 1, text.len, stdout);
    if (text.len && text.data[text.len - 1] != '\n')
        putchar('\n');
}

/* "providerID" -> "PROVIDER-ID" */
static void heading_text(const char *key, struct kp_buf *out)
{
    for (const char *at = key; *at; at++) {
        if (at > key && isupper((unsigned char)at[0]) && islower((unsigned char)at[-1]))
            kp_buf_putc(out, '-');
        kp_buf_putc(out, (char)toupper((unsigned char)*at));
    }
}

static void cell_text(const struct kp_value *cell, struct kp_buf *out)
{
    if (!cell || cell->kind == KP_VALUE_NULL)
        kp_buf_puts(out, "-");
    else if (cell->kind == KP_VALUE_STRING)
        kp_buf_puts(out, *cell->string ? cell->string : "-");
    else
        kp_value_print(cell, out);
}

void cli_print_list(const struct kp_value *list, const char *const *columns, enum cli_output output)
{
    size_t widths[COLUMNS_MAX] = {0}, n_columns = 0;
    if (output != CLI_TABLE) {
        cli_print_value(list, output);
        return;
    }
    for (; columns[n_columns]; n_columns++) {
        KP_ASSERT(n_columns < COLUMNS_MAX);
        KP_AUTO_BUF struct kp_buf heading = {0};
        heading_text(columns[n_columns], &heading);
        widths[n_columns] = heading.len;
        for (size_t row = 0; row < list->array.len; row++) {
            KP_AUTO_BUF struct kp_buf text = {0};
            cell_text(kp_value_get(list->array.items[row], columns[n_columns]), &text);
            widths[n_columns] = KP_MAX(widths[n_columns], text.len);
        }
    }
    for (size_t c = 0; c < n_columns; c++) {
        KP_AUTO_BUF struct kp_buf heading = {0};
        heading_text(columns[c], &heading);
        printf("%s%*s", heading.data, c + 1 < n_columns ? (int)(widths[c] - heading.len + COLUMN_GAP) : 0, "");
    }
    putchar('\n');
    for (size_t row = 0; row < list->array.len; row++) {
        for (size_t c = 0; c < n_columns; c++) {
            KP_AUTO_BUF struct kp_buf text = {0};
            cell_text(kp_value_get(list->array.items[row], columns[c]), &text);
            printf("%s%*s", text.data, c + 1 < n_columns ? (int)(widths[c] - text.len + COLUMN_GAP) : 0, "");
        }
        putchar('\n');
    }
}

void cli_format_age(int64_t since_s, int64_t now_s, char out[CLI_AGE_MAX])
{
    long long s = (long long)KP_MAX(now_s - since_s, 0);
    if (s < 120)
        snprintf(out, CLI_AGE_MAX, "%llds", s);
    else if (s < 2 * 3600)
        snprintf(out, CLI_AGE_MAX, "%lldm", s / 60);
    else if (s < 2 * 86400)
        snprintf(out, CLI_AGE_MAX, "%lldh", s / 3600);
    else
        snprintf(out, CLI_AGE_MAX, "%lldd", s / 86400);
}
