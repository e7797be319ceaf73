/* Where a machine's config comes from on a cloud: user data in their forms, config drives, what DHCP answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "lib/archive/archive.h"
#include "nodeimage/init/init_internal.h"

static const char config[] = "{\"kind\":\"MachineConfig\",\"hostname\":\"a\"}";

static void user_data_are_read_in_every_form(void **state)
{
    KP_AUTO_BUF struct kp_buf gz = {0}, base64 = {0}, spaced = {0};
    assert_int_equal(archive_gzip(config, strlen(config), &gz, NULL), 0);
    kp_base64_encode(&base64, gz.data, gz.len);
    kp_buf_printf(&spaced, "\n%s\n", base64.data);
    const struct kp_buf *const forms[] = {&gz, &base64, &spaced};
    for (size_t i = 0; i < KP_ARRAY_LEN(forms); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        assert_int_equal(init_decode_user_data(forms[i]->data, forms[i]->len, &out, NULL), 0);
        assert_string_equal(out.data, config);
    }
    KP_AUTO_BUF struct kp_buf plain = {0};
    assert_int_equal(init_decode_user_data(config, strlen(config), &plain, NULL), 0);
    assert_string_equal(plain.data, config);
}

static void other_user_data_are_refused(void **state)
{
    static const char *const other[] = {"", "\n", "#!/bin/sh\n", "#cloud-config\n", "aGVsbG8=", "\x1f\x8b\x08"};
    for (size_t i = 0; i < KP_ARRAY_LEN(other); i++) {
        KP_AUTO_BUF struct kp_buf out = {0};
        assert_true(init_decode_user_data(other[i], strlen(other[i]), &out, NULL) < 0);
        assert_int_equal(out.len, 0);
    }
}

static void a_config_drive_is_known_by_its_label(void **state)
{
    char iso[2048] = {1, 'C', 'D', '0', '0', '1'}, boot[512] = {0};
    assert_false(init_is_config_drive(iso, sizeof(iso), boot, sizeof(boot)));
    memcpy(iso + 40, "config-2  ", 10);
    assert_true(init_is_config_drive(iso, sizeof(iso), boot, sizeof(boot)));
    assert_false(init_is_config_drive(iso, 60, boot, sizeof(boot)));
    memcpy(boot + 43, "CONFIG-2   ", 11);
    assert_false(init_is_config_drive(NULL, 0, boot, sizeof(boot))); /* no boot sector */
    boot[510] = 0x55;
    boot[511] = (char)0xaa;
    assert_true(init_is_config_drive(NULL, 0, boot, sizeof(boot)));
    memset(boot + 43, 0, 11);
    memcpy(boot + 71, "config-2   ", 11);
    assert_true(init_is_config_drive(NULL, 0, boot, sizeof(boot)));
    assert_false(init_is_config_drive(NULL, 0, boot, 100));
}

static void what_dhcp_gave_becomes_commands(void **state)
{
    static const struct {
        const char *answer, *batch, *resolv_conf;
    } rows[] = {
        {"ip=10.60.0.5\nmask=24\nrouter=10.60.0.1\nstaticroutes=\ndns=10.60.0.2 10.60.0.3\nmtu=1450\n",
         "link set eth0 mtu 1450\naddress replace 10.60.0.5/24 dev eth0\nroute replace default via 10.60.0.1 dev eth0 onlink metric 101\n",
         "nameserver 10.60.0.2\nnameserver 10.60.0.3\n"},
        /* routes of its own: the router does not count, and what is on the link comes first */
        {"ip=10.0.0.2\nmask=32\nrouter=10.0.0.9\nstaticroutes=0.0.0.0/0 10.0.0.1 10.0.0.1/32 0.0.0.0\ndns=\nmtu=\n",
         "address replace 10.0.0.2/32 dev eth0\nroute replace 10.0.0.1/32 dev eth0 metric 101\n"
         "route replace 0.0.0.0/0 via 10.0.0.1 dev eth0 onlink metric 101\n",
         ""},
        {"ip=10.0.0.2\nmask=8\nrouter=\n", "address replace 10.0.0.2/8 dev eth0\n", ""},
        {"mtu=1500\nmask=8\nip=10.0.0.2\nrouter=10.0.0.1 10.0.0.3\ndns=x 1.1.1.1\n",
         "link set eth0 mtu 1500\naddress replace 10.0.0.2/8 dev eth0\nroute replace default via 10.0.0.1 dev eth0 onlink metric 101\n", "nameserver 1.1.1.1\n"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        KP_AUTO_BUF struct kp_buf batch = {0}, resolv_conf = {0};
        struct kp_error error = {0};
        if (init_dhcp_commands("eth0", 1, rows[i].answer, &batch, &resolv_conf, &error) < 0)
            fail_msg("%s", error.message);
        assert_string_equal(batch.data, rows[i].batch);
        assert_string_equal(resolv_conf.data ? resolv_conf.data : "", rows[i].resolv_conf);
    }
}

static void what_dhcp_may_not_say_is_refused(void **state)
{
    static const char *const wrong[] = {
        "", "ip=10.0.0.2\n", "ip=10.0.0.2\nmask=255.0.0.0\n", "ip=10.0.0.2\nmask=33\n", "ip=a;reboot\nmask=8\n", "ip=10.0.0.2\nmask=8\nmtu=10\n",
        "ip=10.0.0.2\nmask=8\nrouter=$(x)\n", "ip=10.0.0.2\nmask=8\nstaticroutes=10.0.0.0/40 10.0.0.1\n", "ip=10.0.0.2\nmask=8\nstaticroutes=10.0.0.0/8 x\n",
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        KP_AUTO_BUF struct kp_buf batch = {0}, resolv_conf = {0};
        if (init_dhcp_commands("eth0", 0, wrong[i], &batch, &resolv_conf, NULL) >= 0)
            fail_msg("accepted: %s", wrong[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(user_data_are_read_in_every_form),
        cmocka_unit_test(other_user_data_are_refused),
        cmocka_unit_test(a_config_drive_is_known_by_its_label),
        cmocka_unit_test(what_dhcp_gave_becomes_commands),
        cmocka_unit_test(what_dhcp_may_not_say_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
