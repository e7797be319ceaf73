/* The errors that clients tell apart by code and text: those of etcd's client library, all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "controlplane/etcd/server/errors_internal.h"

static const struct {
    int code;
    const char *text;
} of_etcd[] = {
    {3, "key is not provided"},
    {3, "key not found"},
    {3, "value is provided"},
    {3, "lease is provided"},
    {3, "too many operations in txn request"},
    {3, "duplicate key given in txn request"},
    {3, "invalid client api version"},
    {3, "invalid sort option"},
    {11, "mvcc: required revision has been compacted"},
    {11, "mvcc: required revision is a future revision"},
    {8, "mvcc: database space exceeded"},
    {5, "requested lease not found"},
    {9, "lease already exists"},
    {11, "too large lease TTL"},
    {1, "watch canceled"},
    {9, "member ID already exist"},
    {9, "Peer URLs already exists"},
    {9, "re-configuration failed due to not enough started members"},
    {3, "given member URLs are invalid"},
    {5, "member not found"},
    {9, "can only promote a learner member"},
    {9, "can only promote a learner member which is in sync with leader"},
    {9, "too many learner members in cluster"},
    {9, "cluster ID mismatch"},
    {3, "request is too large"},
    {8, "too many requests"},
    {9, "root user does not exist"},
    {9, "root user does not have root role"},
    {9, "user name already exists"},
    {3, "user name is empty"},
    {9, "user name not found"},
    {9, "role name already exists"},
    {9, "role name not found"},
    {3, "role name is empty"},
    {3, "authentication failed, invalid user ID or password"},
    {3, "permission not given"},
    {7, "permission denied"},
    {9, "role is not granted to the user"},
    {9, "permission is not granted to the role"},
    {9, "authentication is not enabled"},
    {16, "invalid auth token"},
    {3, "invalid auth management"},
    {3, "revision of auth store is old"},
    {14, "no leader"},
    {9, "not leader"},
    {14, "leader changed"},
    {9, "not capable"},
    {14, "server stopped"},
    {14, "request timed out"},
    {14, "request timed out, possibly due to previous leader failure"},
    {14, "request timed out, possibly due to connection lost"},
    {14, "request timed out, waiting for the applied index took too long"},
    {14, "unhealthy cluster"},
    {15, "corrupt cluster"},
    {9, "rpc not supported for learner"},
    {9, "bad leader transferee"},
    {3, "wrong downgrade target version format"},
    {3, "invalid downgrade target version"},
    {9, "cluster version not found during downgrade"},
    {9, "cluster has a downgrade job in progress"},
    {9, "no inflight downgrade job"},
    {1, "request canceled"},
    {4, "context deadline exceeded"},
};

static void every_error_of_etcd_is_there_once(void **state)
{
    for (size_t i = 0; i < KP_ARRAY_LEN(of_etcd); i++) {
        KP_AUTO_FREE char *text = kp_asprintf("etcdserver: %s", of_etcd[i].text);
        int found = 0;
        for (int err = 0; err < ETCD_ERR_COUNT; err++) {
            const struct etcd_err_info *info = etcd_err_info((enum etcd_err)err);
            if (!kp_streq(info->text, text))
                continue;
            found++;
            assert_int_equal(info->grpc_code, of_etcd[i].code);
        }
        if (found != 1)
            fail_msg("%s is there %d times", text, found);
    }
}

static void every_result_of_a_module_has_its_error(void **state)
{
    for (int result = AUTH_OK; result <= AUTH_NAME_TOO_LONG; result++) {
        enum etcd_err err = etcd_err_of_auth((enum auth_result)result);
        assert_int_not_equal(err, ETCD_INTERNAL);
        assert_int_equal(err == ETCD_OK, result == AUTH_OK);
    }
    for (int result = MVCC_OK; result <= MVCC_IO; result++) {
        enum etcd_err err = etcd_err_of_mvcc((enum mvcc_result)result);
        assert_int_not_equal(err, ETCD_INTERNAL);
        assert_int_equal(err == ETCD_OK, result == MVCC_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_of_etcd_is_there_once),
        cmocka_unit_test(every_result_of_a_module_has_its_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
