/* Tables, JSON and YAML as they come out on standard output, ages, and the names of formats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

/* What print_list writes, by a file in standard output's place. */
static void printed(const struct kp_value *list, const char *const *columns, enum cli_output output, char *ret, size_t size)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
    cli_print_list(list, columns, output);
    fflush(stdout);
    assert_true(dup2(saved, STDOUT_FILENO) >= 0);
    close(saved);
    rewind(file);
    size_t n = fread(ret, 1, size - 1, file);
    ret[n] = 0;
    fclose(file);
}

static void a_list_comes_in_every_format(void **state)
{
    static const char text[] = "[{\"name\":\"demo-cp-1\",\"providerID\":\"local://a\",\"ready\":\"\",\"workers\":2},{\"name\":\"b\",\"providerID\":\"c\",\"more\":1}]";
    static const char *const columns[] = {"name", "providerID", "ready", "workers", NULL};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *list = NULL, *again = NULL, **documents = NULL;
    size_t count = 0;
    char out[1024];
    assert_int_equal(kp_value_parse(text, sizeof(text) - 1, arena, NULL, &list, NULL), 0);
    printed(list, columns, CLI_TABLE, out, sizeof(out));
    assert_string_equal(out, "NAME        PROVIDER-ID   READY   WORKERS\n"
                             "demo-cp-1   local://a     -       2\n"
                             "b           c             -       -\n");
    printed(list, columns, CLI_JSON, out, sizeof(out));
    assert_int_equal(kp_value_parse(out, strlen(out), arena, NULL, &again, NULL), 0);
    assert_true(kp_value_equal(list, again));
    printed(list, columns, CLI_YAML, out, sizeof(out));
    assert_int_equal(kp_yaml_parse(out, strlen(out), arena, &documents, &count, NULL), 0);
    assert_int_equal(count, 1);
    assert_true(kp_value_equal(list, documents[0]));
}

static void formats_have_names(void **state)
{
    enum cli_output output = CLI_TABLE;
    struct kp_error error = {0};
    assert_int_equal(cli_output_parse("yaml", &output, &error), 0);
    assert_int_equal(output, CLI_YAML);
    assert_int_equal(cli_output_parse("xml", &output, &error), KP_EUSAGE);
    assert_string_equal(error.message, "output \"xml\": must be table, json or yaml");
    assert_int_equal(output, CLI_YAML);
}

static void ages_are_as_kubectl_has_them(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } ages[] = {{-5, "0s"}, {0, "0s"}, {119, "119s"}, {120, "2m"}, {7199, "119m"}, {7200, "2h"}, {172799, "47h"}, {172800, "2d"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(ages); i++) {
        char out[CLI_AGE_MAX];
        cli_format_age(1000000, 1000000 + ages[i].seconds, out);
        assert_string_equal(out, ages[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_comes_in_every_format),
        cmocka_unit_test(formats_have_names),
        cmocka_unit_test(ages_are_as_kubectl_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
