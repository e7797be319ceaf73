/* The plans of the CronJob controller: a Job at its time and once, what policy, history and suspension make of it, and what is told. */
#include "tests/support/kcm_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define CRON(spec, status)                                                                                                         \
    "{metadata: {name: c, namespace: d, uid: cron1, resourceVersion: '5', creationTimestamp: '1970-01-12T13:00:00Z'}, spec: {schedule: '" SCHEDULE "', " spec \
    " jobTemplate: {metadata: {labels: {app: x}, annotations: {a: b}}, spec: {backoffLimit: 2, template: {spec: {containers: [{name: m, image: i}]}}}}}, status: {" status "}}"
#define JOB(name, uid, status)                                                                                     \
    "{metadata: {name: " name ", namespace: d, uid: " uid ", ownerReferences: [{apiVersion: batch/v1, kind: CronJob, name: c, uid: cron1, controller: true}]}, " \
    "spec: {template: {}}, status: {" status "}}"
#define COMPLETE(at) "startTime: '" at "', completionTime: '" at "', conditions: [{type: Complete, status: 'True'}]"
#define FAILED(at) "startTime: '" at "', conditions: [{type: Failed, status: 'True'}]"
#define SCHEDULE "*/10 * * * *"
/* WORLD_NOW is 1970-01-12 13:46:40: the last time was 13:40, in minutes 16660; the next comes after 200 s. */
#define NEXT "requeue after 200100 ms\n"

static int set_up(void **state)
{
    static const struct controller *const controllers[] = {&cron_job_controller};
    *state = world_new(controllers, 1, NULL);
    return 0;
}

static int tear_down(void **state)
{
    world_free(*state);
    return 0;
}

static const char *plan_of(struct kcm_world *world, const char *cron)
{
    world_put(world, &k8s_cronjobs_resource, cron);
    return world_plan(world, &cron_job_controller, "d/c");
}

static void a_job_is_made_at_its_time_and_once(void **state)
{
    struct kcm_world *world = *state;
    assert_string_equal(plan_of(world, CRON("", "")), "create jobs d/c-16660\n"
                                                      "event-on-failure d/c\n"
                                                      "event d/c Normal SuccessfulCreate: Created job \n"
                                                      "update cronjobs/status d/c\n" NEXT);
    const struct k8s_job *job = world_written(world, PLAN_CREATE, &k8s_jobs_resource, 0);
    assert_string_equal(kp_string_map_get(&job->metadata->annotations, "batch.kubernetes.io/cronjob-scheduled-timestamp"), "1970-01-12T13:40:00Z");
    assert_string_equal(kp_string_map_get(&job->metadata->annotations, "a"), "b");
    assert_string_equal(kp_string_map_get(&job->metadata->labels, "app"), "x");
    assert_int_equal(job->spec->backoff_limit, 2);
    assert_true(job->metadata->owner_references.items[0].controller);
    const struct k8s_cron_job *cron = world_written(world, PLAN_UPDATE, &k8s_cronjobs_resource, 0);
    assert_int_equal(cron->status->last_schedule_time.seconds, 16660 * 60);
    world_apply(world);
    /* Its Job is seen: told as what runs, and nothing more for this time. */
    assert_string_equal(world_plan(world, &cron_job_controller, "d/c"), "update cronjobs/status d/c\n" NEXT);
    cron = world_written(world, PLAN_UPDATE, &k8s_cronjobs_resource, 0);
    assert_int_equal(cron->status->active.len, 1);
    assert_string_equal(cron->status->active.items[0].name, "c-16660");
    world_apply(world);
    assert_string_equal(world_plan(world, &cron_job_controller, "d/c"), NEXT);
    world->now_s += 200;
    assert_true(kp_starts_with(world_plan(world, &cron_job_controller, "d/c"), "create jobs d/c-16670\n"));
}

static void a_job_that_was_made_before_a_crash_is_not_made_again(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_jobs_resource, JOB("c-16660", "j1", ""));
    assert_string_equal(plan_of(world, CRON("", "")), "update cronjobs/status d/c\n" NEXT);
    const struct k8s_cron_job *cron = world_written(world, PLAN_UPDATE, &k8s_cronjobs_resource, 0);
    assert_int_equal(cron->status->last_schedule_time.seconds, 16660 * 60);
    assert_int_equal(cron->status->active.len, 1);
}

static void nothing_is_made_before_its_time_or_while_suspended(void **state)
{
    struct kcm_world *world = *state;
    assert_string_equal(plan_of(world, CRON("suspend: true,", "")), "");
    assert_string_equal(plan_of(world, CRON("", "lastScheduleTime: '1970-01-12T13:40:00Z'")), NEXT);
    assert_string_equal(plan_of(world, CRON("startingDeadlineSeconds: 300,", "")), NEXT); /* the start at 13:40 came too late */
    assert_true(kp_starts_with(plan_of(world, CRON("startingDeadlineSeconds: 500,", "")), "create jobs d/c-16660\n"));
}

static void policies_say_what_becomes_of_the_one_that_runs(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_jobs_resource, JOB("c-16650", "j1", ""));
#define RUNNING "active: [{kind: Job, name: c-16650, uid: j1}], lastScheduleTime: '1970-01-12T13:30:00Z'"
    assert_true(kp_starts_with(plan_of(world, CRON("concurrencyPolicy: Allow,", RUNNING)), "create jobs d/c-16660\n"));
    assert_string_equal(plan_of(world, CRON("concurrencyPolicy: Forbid,", RUNNING)),
                        "event d/c Normal JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid\n" NEXT);
    assert_true(kp_starts_with(plan_of(world, CRON("concurrencyPolicy: Replace,", RUNNING)),
                               "delete jobs d/c-16650\nevent d/c Normal SuccessfulDelete: Deleted job c-16650\ncreate jobs d/c-16660\n"));
    const struct k8s_cron_job *cron = world_written(world, PLAN_UPDATE, &k8s_cronjobs_resource, 0);
    assert_int_equal(cron->status->active.len, 0);
}

static void what_ended_is_told_and_the_newest_are_kept(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_jobs_resource, JOB("c-1", "j1", COMPLETE("1970-01-12T13:10:00Z")));
    world_put(world, &k8s_jobs_resource, JOB("c-2", "j2", COMPLETE("1970-01-12T13:20:00Z")));
    world_put(world, &k8s_jobs_resource, JOB("c-3", "j3", FAILED("1970-01-12T13:25:00Z")));
    world_put(world, &k8s_jobs_resource, JOB("c-4", "j4", FAILED("1970-01-12T13:30:00Z")));
    assert_string_equal(plan_of(world, CRON("successfulJobsHistoryLimit: 1,", "lastScheduleTime: '1970-01-12T13:40:00Z',"
                                            "active: [{kind: Job, name: c-2, uid: j2}, {kind: Job, name: c-4, uid: j4}, {kind: Job, name: c-5, uid: j5}]")),
                        "event d/c Normal SawCompletedJob: Saw completed job: c-2, condition: Complete\n"
                        "event d/c Normal SawCompletedJob: Saw completed job: c-4, condition: Failed\n"
                        "event d/c Normal MissingJob: Active job went missing: c-5\n"
                        "delete jobs d/c-1\n"
                        "event d/c Normal SuccessfulDelete: Deleted job c-1\n"
                        "delete jobs d/c-3\n"
                        "event d/c Normal SuccessfulDelete: Deleted job c-3\n"
                        "update cronjobs/status d/c\n" NEXT);
    const struct k8s_cron_job *cron = world_written(world, PLAN_UPDATE, &k8s_cronjobs_resource, 0);
    assert_int_equal(cron->status->active.len, 0);
    assert_int_equal(cron->status->last_successful_time.seconds, 1000000 - 6 * 60 - 40 - 20 * 60);
}

static void jobs_of_others_are_not_its_own(void **state)
{
    struct kcm_world *world = *state;
    world_put(world, &k8s_jobs_resource, "{metadata: {name: c-1, namespace: d, uid: j1}, spec: {template: {}}}");
    world_put(world, &k8s_jobs_resource, "{metadata: {name: c-2, namespace: d, uid: j2, ownerReferences: "
                                         "[{apiVersion: batch/v1, kind: CronJob, name: c, uid: older, controller: true}]}, spec: {template: {}}}");
    assert_string_equal(plan_of(world, CRON("", "lastScheduleTime: '1970-01-12T13:40:00Z'")), NEXT);
}

#undef SCHEDULE
#define SCHEDULE "* * * * *"
static void too_many_missed_starts_are_one_job_and_a_warning(void **state)
{
    struct kcm_world *world = *state;
    assert_true(kp_starts_with(plan_of(world, CRON("", "lastScheduleTime: '1970-01-01T00:00:00Z'")),
                               "event d/c Warning TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew\n"
                               "create jobs d/c-16666\n"));
    assert_int_equal(world_count(world, "create"), 1);
}

#undef SCHEDULE
#define SCHEDULE "soon"
static void what_cannot_be_read_is_told(void **state)
{
    struct kcm_world *world = *state;
    assert_string_equal(plan_of(world, CRON("", "")), "event d/c Warning UnparseableSchedule: unparseable schedule: soon : expected exactly 5 fields, found 1: [soon]\n");
    assert_string_equal(plan_of(world, CRON("timeZone: Mars/Olympus,", "")),
                        "event d/c Warning UnknownTimeZone: invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_job_is_made_at_its_time_and_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_job_that_was_made_before_a_crash_is_not_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_made_before_its_time_or_while_suspended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(policies_say_what_becomes_of_the_one_that_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_ended_is_told_and_the_newest_are_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(jobs_of_others_are_not_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_missed_starts_are_one_job_and_a_warning, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
