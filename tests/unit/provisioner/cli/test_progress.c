/* What a terminal gets drawn: machines with their phases, within its width and height, and the erasing of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "provisioner/cli/cli.h"

static const struct cli_screen wide = {.columns = 80, .rows = 24};

static void machines_stand_below_the_step(void **state)
{
    struct cli_progress progress = {.start_ms = 1000, .step = "All nodes Ready"};
    KP_AUTO_BUF struct kp_buf out = {0};
    snprintf(progress.detail, sizeof(progress.detail), "demo-worker-1");
    assert_non_null(cli_progress_note(&progress, "demo-cp-1", CLI_PHASE_RESERVE, 1000));
    assert_non_null(cli_progress_note(&progress, "demo-worker-1", CLI_PHASE_RESERVE, 1100));
    assert_non_null(cli_progress_note(&progress, "demo-cp-1", CLI_PHASE_READY, 3000));
    assert_non_null(cli_progress_note(&progress, "demo-worker-1", CLI_PHASE_KUBELET, 3500));
    assert_null(cli_progress_note(&progress, "demo-worker-1", CLI_PHASE_KUBELET, 3600));
    cli_progress_draw(&progress, 5000, &wide, &out);
    assert_string_equal(out.data, "[  4.0s] All nodes Ready ... demo-worker-1\n"
                                  "  demo-cp-1      Ready       2.0s\n"
                                  "  demo-worker-1  kubelet     3.9s\n");
    assert_int_equal(progress.drawn_lines, 3);
    kp_buf_done(&out);
    cli_progress_erase(&progress, &out);
    assert_string_equal(out.data, "\033[3A\r\033[J");
    assert_int_equal(progress.drawn_lines, 0);
    kp_buf_done(&out);
    cli_progress_erase(&progress, &out);
    assert_int_equal(out.len, 0);
    cli_progress_end(&progress);
}

static void no_line_is_as_wide_as_the_screen(void **state)
{
    struct cli_progress progress = {.step = "Machines"};
    snprintf(progress.detail, sizeof(progress.detail), "%0100d", 1);
    assert_non_null(cli_progress_note(&progress, "a-machine-with-quite-a-long-name", CLI_PHASE_BOOT, 0));
    for (size_t columns = 2; columns < 120; columns++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        const struct cli_screen screen = {.columns = columns, .rows = 10, .colour = false};
        progress.drawn_lines = 0;
        cli_progress_draw(&progress, 0, &screen, &out);
        for (const char *line = out.data; *line; line += strcspn(line, "\n") + 1)
            assert_true(strcspn(line, "\n") < columns);
        assert_int_equal(progress.drawn_lines, 2);
    }
    cli_progress_end(&progress);
}

static void of_too_many_machines_the_unfinished_are_shown(void **state)
{
    struct cli_progress progress = {0};
    const struct cli_screen low = {.columns = 80, .rows = 6};
    char name[32];
    KP_AUTO_BUF struct kp_buf out = {0};
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "m%d", i);
        assert_non_null(cli_progress_note(&progress, name, i < 18 ? CLI_PHASE_READY : CLI_PHASE_BOOT, 0));
    }
    cli_progress_draw(&progress, 0, &low, &out);
    assert_non_null(strstr(out.data, "m18"));
    assert_non_null(strstr(out.data, "m19"));
    assert_null(strstr(out.data, "m17"));
    assert_non_null(strstr(out.data, "  and 18 more\n"));
    assert_int_equal(progress.drawn_lines, 3);
    cli_progress_end(&progress);
}

static void colour_is_only_what_is_asked_for(void **state)
{
    struct cli_progress progress = {0};
    const struct cli_screen colourful = {.columns = 80, .rows = 24, .colour = true};
    KP_AUTO_BUF struct kp_buf plain = {0}, coloured = {0};
    assert_non_null(cli_progress_note(&progress, "a", CLI_PHASE_READY, 0));
    cli_progress_draw(&progress, 0, &wide, &plain);
    cli_progress_draw(&progress, 0, &colourful, &coloured);
    assert_null(strchr(plain.data, '\033'));
    assert_non_null(strstr(coloured.data, "\033[32m"));
    assert_non_null(strstr(coloured.data, "\033[0m\n"));
    cli_progress_end(&progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_stand_below_the_step),
        cmocka_unit_test(no_line_is_as_wide_as_the_screen),
        cmocka_unit_test(of_too_many_machines_the_unfinished_are_shown),
        cmocka_unit_test(colour_is_only_what_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
