/* A cloud in a folder, for tests of what uses lib/cloud: every object is a file, so that it outlives the process that made it, and
 * calls fail, hang or lose their answers on demand.
 *
 *   <state_dir>/lock                            held over every change
 *   <state_dir>/<uid>/network                   cidr
 *   <state_dir>/<uid>/addresses/<name>          one reserved address each
 *   <state_dir>/<uid>/machines/<name>/machine   what was asked for; absent: half-made
 *   <state_dir>/<uid>/machines/<name>/user-data, pid (of the machine's process), console.log, root (what that process writes), forward
 *   <state_dir>/<uid>/machines/<name>/apply, hup  for the machine's process to do, see exec.c
 *   <state_dir>/<uid>/balancers/<name>/...      see balancers.c
 *   <state_dir>/<uid>/routes/10.244.1.0_24      the machine's name
 *   <state_dir>/<uid>/public/<name>             the public address
 *   <state_dir>/.images/<id>                    images that the cloud has
 *
 * With $FAKE_CLOUD_MACHINE set, a machine that is on is a process of that program (tests/support/fake_cloud/machine.c), called with its
 * folder; without, a machine that is on has a file "on". $FAKE_CLOUD_NET ("127.77") is what networks are cut from.
 * $FAKE_CLOUD_PENDING=2: balancers are asked about twice before a change or a deletion is done (KP_EAGAIN, PENDING). $FAKE_CLOUD_HOST_NAMES: they
 * have host names instead of addresses. */
#ifndef TEST_FAKE_CLOUD_H
#define TEST_FAKE_CLOUD_H

#include "cloud/cloud.h"

extern const struct cloud_driver cloud_driver_fake;     /* machines, networks, addresses */
extern const struct cloud_driver cloud_driver_fake_api; /* and sizes, images, public addresses, load balancers, routes; also named "fake" */

/* ---- faults.c
 * $FAKE_CLOUD_FAULT is "<point>:<n>:<what>[:<times>]": the nth time in this process that the point is passed, that happens, once or `times` times in
 * a row. A point is a call's name ("machine_create"), "journal" (an intent is written down), "outcome" (what came of one is) or "state_file" (a file
 * of the state is). fake_faults_set gives another fault to a process that runs, and counts from there on.
 *   error-before, error-after   the call fails without, or with its work done; the codes take turns by n
 *   hang-before, hang-after     the call never comes back, without, or with its work done
 *   kill-before, kill-after     the process is killed before the call's work, or right after it
 *   half                        the call does half of its work, and the process is killed
 *   throttle                    the call is refused: too many requests, come again in FAKE_RETRY_AFTER_MS (429)
 *   unavailable                 the call fails: the cloud has an internal error (500)
 * Every point passed is a line in $FAKE_CLOUD_TRACE: "<point> <object>"; the fault adds "fault <what>". */
enum fake_fault { FAKE_NONE, FAKE_ERROR_BEFORE, FAKE_ERROR_AFTER, FAKE_HANG_BEFORE, FAKE_HANG_AFTER, FAKE_KILL_BEFORE, FAKE_KILL_AFTER, FAKE_HALF,
                  FAKE_THROTTLE, FAKE_UNAVAILABLE };
#define FAKE_RETRY_AFTER_MS 200
struct fake_call {
    enum fake_fault fault;
    int n;
};
/* "" or NULL: none, whatever the environment says. Calls that hang do so for good, each on the thread it is on. */
void fake_faults_set(const char *spec);
/* How often a fault has come about since then. */
int fake_faults_fired(void);
/* Before a call's work: 0, or the call's failure; does not come back from a hang or a kill. *call goes to the other two. */
int fake_call_begin(const char *point, const char *object, struct fake_call *call, struct kp_error *error);
/* In the middle of it. */
void fake_call_half(const struct fake_call *call);
/* After it: r, or the failure that hides it. */
int fake_call_end(const struct fake_call *call, int r, struct kp_error *error);

/* ---- power.c */
bool fake_machine_runs(const char *dir);
int fake_machine_start(const char *dir, struct kp_error *error);
int fake_machine_kill(const char *dir, struct kp_error *error); /* returns when it has ended; one that is off is fine */

#endif
