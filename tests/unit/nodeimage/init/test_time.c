/* Whom the machine asks for the time, and what it makes of its real-time clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "nodeimage/init/init_internal.h"

#define TAIL "driftfile /var/lib/chrony/chrony.drift\nmakestep 5 -1\nrtcsync\nport 0\ncmdport 0\npidfile /run/chrony/chronyd.pid\n"
#define SECOND 1000000000LL
#define NOON 1700000000LL

static void the_nearest_servers_are_asked(void **state)
{
    static const struct {
        struct init_time time;
        const char *dhcp, *phc, *wanted;
    } rows[] = {
        {{.wanted = true}, "", NULL, "pool 2.debian.pool.ntp.org iburst maxsources 2\n" TAIL},
        {{.wanted = true}, "10.0.0.1 10.0.0.2\n", NULL, "server 10.0.0.1 iburst\nserver 10.0.0.2 iburst\n" TAIL},
        {{.cloud_servers = {"169.254.169.123"}, .n_cloud_servers = 1}, "10.0.0.1", NULL, "server 169.254.169.123 iburst\n" TAIL},
        {{.servers = {"ntp.example", "::1"}, .n_servers = 2, .cloud_servers = {"10.0.0.9"}, .n_cloud_servers = 1},
         "10.0.0.1", NULL, "server ntp.example iburst\nserver ::1 iburst\n" TAIL},
        /* the host's clock is one more source, but where the cluster file says whom to ask */
        {{.wanted = true}, "", "/dev/ptp0",
         "pool 2.debian.pool.ntp.org iburst maxsources 2\nrefclock PHC /dev/ptp0 poll 5 dpoll 4 prefer trust\n" TAIL},
        {{.servers = {"ntp.example"}, .n_servers = 1}, "", "/dev/ptp0", "server ntp.example iburst\n" TAIL},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        init_time_config(&rows[i].time, rows[i].dhcp, rows[i].phc, &out);
        assert_string_equal(out.data, rows[i].wanted);
    }
}

static void what_dhcp_may_not_say_gets_into_no_config(void **state)
{
    static const char *const bad[] = {
        " ", "\n\n", "ntp.example", "10.0.0.256", "0.0.0.0", "10.0.0.1;reboot", "-1.2.3.4", "10.0.0.1\tmakestep", "::1", "include /etc/passwd",
    };
    const struct init_time time = {.wanted = true};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        init_time_config(&time, bad[i], NULL, &out);
        assert_string_equal(out.data, "pool 2.debian.pool.ntp.org iburst maxsources 2\n" TAIL);
    }
    KP_AUTO_BUF struct kp_buf many = {0}, out = {0};
    for (int i = 1; i < 40; i++)
        kp_buf_printf(&many, "10.0.0.%d ", i);
    init_time_config(&time, many.data, NULL, &out);
    assert_non_null(strstr(out.data, "server 10.0.0.8 iburst\n"));
    assert_null(strstr(out.data, "10.0.0.9"));
}

static void a_config_names_servers_and_nothing_else(void **state)
{
#define CONFIG(time) "{\"kind\":\"MachineConfig\",\"hostname\":\"a\",\"time\":" time "}"
    static const char *const wrong[] = {
        CONFIG("[]"), CONFIG("true"), CONFIG("{\"servers\":\"a\"}"), CONFIG("{\"servers\":[1]}"), CONFIG("{\"servers\":[\"\"]}"),
        CONFIG("{\"servers\":[\"a b\"]}"), CONFIG("{\"servers\":[\"a\\nmakestep\"]}"), CONFIG("{\"servers\":[\"-x\"]}"),
        CONFIG("{\"cloudServers\":[\"a;b\"]}"),
        CONFIG("{\"servers\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]}"),
    };
    static const char good[] = CONFIG("{\"servers\":[\"ntp.example\",\"fd00::1\"],\"cloudServers\":[\"10.0.0.1\"]}");
    struct init_config config;
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        if (init_config_parse(wrong[i], strlen(wrong[i]), arena, &config, NULL) >= 0)
            fail_msg("accepted: %s", wrong[i]);
    }
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    assert_int_equal(init_config_parse(good, strlen(good), arena, &config, NULL), 0);
    assert_true(config.time.wanted);
    assert_int_equal(config.time.n_servers, 2);
    assert_string_equal(config.time.cloud_servers[0], "10.0.0.1");
}

/* One look: the real-time clock in seconds after noon, the system's and the machine's own time in milliseconds. */
static struct init_clock_look look(int64_t rtc_s, bool edge, int64_t real_ms, int64_t mono_ms, bool synchronised)
{
    return (struct init_clock_look){NOON + rtc_s, edge, NOON * SECOND + real_ms * 1000000, mono_ms * 1000000, synchronised};
}

static void expect(struct init_clock *clock, struct init_clock_look at, enum init_clock_verb verb, int64_t by_ms)
{
    struct init_clock_action action = init_clock_decide(clock, &at);
    assert_int_equal(action.verb, verb);
    assert_int_equal(action.by_ns / 1000000, by_ms);
}

static void clocks_that_agree_are_left_alone(void **state)
{
    struct init_clock clock = {0};
    expect(&clock, look(0, false, 900, 5000, false), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(0, false, 100, 5000, false), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(15, true, 15400, 20000, false), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(30, true, 30001, 35000, true), INIT_CLOCK_KEEP, 0);
}

static void without_network_time_the_clock_follows_the_real_time_clock(void **state)
{
    struct init_clock clock = {0};
    expect(&clock, look(0, true, 0, 0, false), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(30, false, 15000, 15000, false), INIT_CLOCK_STEP, 15500); /* paused for 15 s */
    expect(&clock, look(45, true, 45600, 30000, false), INIT_CLOCK_SLEW, -600);   /* the rest, at an edge */
    expect(&clock, look(60, true, 60100, 45000, false), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(50, true, 75100, 60000, false), INIT_CLOCK_SLEW, -25100); /* the host's clock was put back */
    expect(&clock, look(0, true, 90000, 75000, false), INIT_CLOCK_STEP, -90000);
    expect(&clock, look(16, true, 15000, 90000, false), INIT_CLOCK_SLEW, 1000);
}

static void with_network_time_only_a_pause_counts(void **state)
{
    struct init_clock clock = {0};
    expect(&clock, look(0, true, 3600000, 0, true), INIT_CLOCK_KEEP, 0);          /* the real-time clock is an hour late */
    expect(&clock, look(15, true, 3615000, 15000, true), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(45, false, 3630000, 30000, true), INIT_CLOCK_STEP, 15000); /* paused for 15 s */
    expect(&clock, look(60, true, 3660000, 45000, false), INIT_CLOCK_KEEP, 0);    /* the network is gone */
    expect(&clock, look(75, true, 60000, 60000, false), INIT_CLOCK_KEEP, 0);      /* chrony has set the clock back */
    expect(&clock, look(105, false, 90000, 75000, true), INIT_CLOCK_KEEP, 0);     /* paused, and chrony was there first */
}

static void a_real_time_clock_that_the_kernel_sets_is_no_pause(void **state)
{
    struct init_clock clock = {0};
    expect(&clock, look(0, true, 3600000, 0, true), INIT_CLOCK_KEEP, 0);
    expect(&clock, look(3615, true, 3615000, 15000, true), INIT_CLOCK_KEEP, 0); /* as it does every eleven minutes */
    expect(&clock, look(3660, true, 3630000, 30000, true), INIT_CLOCK_STEP, 30000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_servers_are_asked),
        cmocka_unit_test(what_dhcp_may_not_say_gets_into_no_config),
        cmocka_unit_test(a_config_names_servers_and_nothing_else),
        cmocka_unit_test(clocks_that_agree_are_left_alone),
        cmocka_unit_test(without_network_time_the_clock_follows_the_real_time_clock),
        cmocka_unit_test(with_network_time_only_a_pause_counts),
        cmocka_unit_test(a_real_time_clock_that_the_kernel_sets_is_no_pause),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
