/* provisioner/cli: kprov's commands. Exit status: 0 done, 1 failed, 2 wrong command line (of `plan`: something would change),
 * 130 interrupted; `exec` passes on the command's own. docs/cli.md tells them for users. */
#ifndef KPROV_CLI_H
#define KPROV_CLI_H

#include "base/base.h"
#include "cloud/cloud.h"
#include "codec/codec.h"
#include "provisioner/state/state.h"

/* ---- main table: what cli_main dispatches to, and completion and help are made from */
struct cli_command {
    const char *words;    /* "create cluster" */
    const char *usage;    /* "[NAME] [-f cluster.yaml] ..." */
    const char *help;     /* one line */
    const char *examples; /* lines of commands */
    /* argv[0] is the last word of the command. Gives an exit status of its own (>= 0) or a kp_code. */
    int (*run)(int argc, char **argv, struct kp_error *error);
};
extern const struct cli_command cli_commands[]; /* ends with words == NULL */
int cli_main(int argc, char **argv);
void cli_print_command_help(const struct cli_command *command, const struct kp_flag *flags);
/* Parses flags of the command named by `words`; prints its help and sets *ret_help when asked for it. */
int cli_parse(const char *words, const struct kp_flag *flags, int argc, char **argv, struct kp_strings *ret_rest,
              bool *ret_help, struct kp_error *error) KP_NODISCARD;

int cli_create_cluster(int argc, char **argv, struct kp_error *error);
int cli_scale_nodepool(int argc, char **argv, struct kp_error *error);
int cli_scale_controlplane(int argc, char **argv, struct kp_error *error);
int cli_repair(int argc, char **argv, struct kp_error *error);
int cli_upgrade_cluster(int argc, char **argv, struct kp_error *error);
int cli_rollback_cluster(int argc, char **argv, struct kp_error *error);
int cli_plan(int argc, char **argv, struct kp_error *error);
int cli_apply(int argc, char **argv, struct kp_error *error);
int cli_delete_cluster(int argc, char **argv, struct kp_error *error);
int cli_adopt(int argc, char **argv, struct kp_error *error);
int cli_gc(int argc, char **argv, struct kp_error *error);
int cli_get_clusters(int argc, char **argv, struct kp_error *error);
int cli_get_nodes(int argc, char **argv, struct kp_error *error);
int cli_kubeconfig(int argc, char **argv, struct kp_error *error);
int cli_node_stop(int argc, char **argv, struct kp_error *error);
int cli_node_start(int argc, char **argv, struct kp_error *error);
int cli_logs(int argc, char **argv, struct kp_error *error);
int cli_exec(int argc, char **argv, struct kp_error *error);
int cli_ssh(int argc, char **argv, struct kp_error *error);
int cli_validate_cluster(int argc, char **argv, struct kp_error *error);
int cli_describe_cluster(int argc, char **argv, struct kp_error *error);
int cli_events(int argc, char **argv, struct kp_error *error);
int cli_support_bundle(int argc, char **argv, struct kp_error *error);
int cli_version(int argc, char **argv, struct kp_error *error);
int cli_image_build(int argc, char **argv, struct kp_error *error);
int cli_image_list(int argc, char **argv, struct kp_error *error);
int cli_image_prune(int argc, char **argv, struct kp_error *error);
int cli_image_upload(int argc, char **argv, struct kp_error *error);
int cli_snapshot_save(int argc, char **argv, struct kp_error *error);
int cli_snapshot_list(int argc, char **argv, struct kp_error *error);
int cli_snapshot_fetch(int argc, char **argv, struct kp_error *error);
int cli_snapshot_restore(int argc, char **argv, struct kp_error *error);
int cli_certs_list(int argc, char **argv, struct kp_error *error);
int cli_certs_renew(int argc, char **argv, struct kp_error *error);
int cli_certs_rotate_ca(int argc, char **argv, struct kp_error *error);
int cli_completion(int argc, char **argv, struct kp_error *error);
int cli_complete(int argc, char **argv, struct kp_error *error); /* what completion scripts ask: the words that may come next */

/* ---- output.c */
enum cli_output { CLI_TABLE, CLI_JSON, CLI_YAML };
int cli_output_parse(const char *text, enum cli_output *ret, struct kp_error *error) KP_NODISCARD;
/* Prints an array of flat objects: as a table of the columns named (a column's heading is its key in capitals), or
   whole as JSON or YAML. columns ends with NULL. */
void cli_print_list(const struct kp_value *list, const char *const *columns, enum cli_output output);
void cli_print_value(const struct kp_value *value, enum cli_output output); /* JSON or YAML */
/* "3m", "2h", "5d" since then, as kubectl's AGE. */
#define CLI_AGE_MAX 24
void cli_format_age(int64_t since_s, int64_t now_s, char out[CLI_AGE_MAX]);

/* ---- progress.c: steps and machines on stderr, with the seconds since the start */
#define CLI_STEPS_MAX 32
/* What a machine goes through, and how one goes. */
enum cli_phase {
    CLI_PHASE_RESERVE,
    CLI_PHASE_CREATE,
    CLI_PHASE_BOOT,
    CLI_PHASE_KUBELET, /* its Node is registered */
    CLI_PHASE_READY,
    CLI_PHASE_DRAIN,
    CLI_PHASE_DELETE,
    CLI_PHASE_GONE,
};
const char *cli_phase_name(enum cli_phase phase); /* "kubelet" */
bool cli_phase_is_final(enum cli_phase phase);
struct cli_progress_machine {
    char name[CLOUD_NAME_MAX];
    enum cli_phase phase;
    int64_t start_ms, phase_ms; /* of the first phase, and of this one */
};
struct cli_progress {
    bool terminal, colour;
    int64_t start_ms, step_start_ms, drawn_ms;
    const char *step; /* running; NULL: none. Borrowed */
    char detail[256];
    struct {
        const char *name;
        int64_t took_ms;
    } steps[CLI_STEPS_MAX];
    size_t n_steps;
    struct cli_progress_machine *machines; /* in the order they were heard of */
    size_t n_machines;
    size_t drawn_lines; /* on the terminal, above the cursor */
};
void cli_progress_start(struct cli_progress *progress); /* of a zeroed one */
void cli_progress_end(struct cli_progress *progress);   /* frees */
void cli_progress_begin(struct cli_progress *progress, const char *step);
void cli_progress_tick(struct cli_progress *progress, const char *detail); /* redraws the running step on a terminal */
/* A machine has come to a phase: a line of its own on a terminal; elsewhere one when the phase is its last. */
void cli_progress_machine(struct cli_progress *progress, const char *name, enum cli_phase phase);
void cli_progress_done(struct cli_progress *progress);
void cli_progress_fail(struct cli_progress *progress); /* ends the line of a step that did not come to its end */
/* progress_view.c: the pure half. note gives NULL when the machine was in that phase already. */
struct cli_screen {
    size_t columns, rows;
    bool colour;
};
const struct cli_progress_machine *cli_progress_note(struct cli_progress *progress, const char *name, enum cli_phase phase,
                                                     int64_t now_ms);
void cli_progress_erase(struct cli_progress *progress, struct kp_buf *out); /* what was drawn */
void cli_progress_draw(struct cli_progress *progress, int64_t now_ms, const struct cli_screen *screen, struct kp_buf *out);
bool cli_terminal(int fd);
bool cli_colour(int fd); /* a terminal, and NO_COLOR is not set */

/* ---- interrupt.c: Ctrl-C and SIGTERM */
/* From here on they set what cli_interrupted tells. A second one ends the program at once, and so do 15 s without an end. */
void cli_interrupt_catch(void);
bool cli_was_interrupted(void);
/* To be asked between two calls of anything that lasts: 0, or KP_ECANCELLED. */
int cli_interrupted(struct kp_error *error) KP_NODISCARD;

/* ---- image.c */
/* The id of the node image made of these programs; built when it is not there. In the arena. */
int cli_image_vm(const char *id, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD; /* kernel, initrd, erofs of one that exists */
int cli_image_disk(const char *id, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD; /* and a disk that boots them by itself */
/* Removes what the environment's account at a provider keeps of node images that are not in `keep` (ids, NULL-terminated). image_cloud.c */
int cli_image_prune_cloud(const char *provider, const char *const *keep, struct kp_error *error) KP_NODISCARD;
/* Which version of Kubernetes is in an image. KP_EINVALID when there is no such image here, or it does not say. */
int cli_image_version(const char *id, struct kp_arena *arena, const char **ret_version, struct kp_error *error) KP_NODISCARD;
int cli_image_ensure(struct kp_arena *arena, const char **ret_id, struct kp_error *error) KP_NODISCARD;

const char *cli_image_dir(void); /* where they are */
/* image_states.c: the folders of state whose clusters go by the folder of images, the own one first; and noting the own one there. */
int cli_image_states(struct kp_arena *arena, struct kp_strings *ret, struct kp_error *error) KP_NODISCARD;
int cli_image_note_state(struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;

/* ---- preflight.c: of a cluster that is not there yet, before anything is made */
int cli_preflight(const struct config *config, const struct cloud *cloud, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;

/* ---- etcd_open.c: the cluster's etcd */
struct etcd_client;
struct pki;
#define CLI_ETCD_OFF_TOO 1u /* also those of machines that are off: to tell of each how it is */
/* A client of the members on the control planes among the machines, straight or through the API server, whichever leads there now. pki: NULL
   reads the cluster's. hidden: what is known of the way, kept for the next time; may be NULL. KP_ENOTFOUND when there is none of them. */
int cli_etcd_open(const char *cluster, const struct pki *pki, const struct cloud_machine_list *machines, unsigned flags, bool *hidden,
                  struct etcd_client **ret, struct kp_error *error) KP_NODISCARD;

/* ---- api.c: the cluster's API server, as kprov uses it */
struct cli_api;
int cli_api_open(const char *kubeconfig_path, struct cli_api **ret_api, struct kp_error *error) KP_NODISCARD;
struct client_config;
/* Of one API server in particular: config is copied. */
int cli_api_open_config(const struct client_config *config, struct cli_api **ret_api, struct kp_error *error) KP_NODISCARD;
void cli_api_close(struct cli_api *api); /* accepts NULL */
/* Asked again, another answer may come: nobody answered, not in time, not to the end (an address that moves ends connections), or not now. */
bool cli_api_may_pass(int code);
KP_DEFINE_AUTO(struct cli_api *, cli_api_close)
/* Polls /readyz until it answers ok; on time-out the error is the last answer. */
int cli_api_wait(struct cli_api *api, int64_t deadline_ms, struct cli_progress *progress, struct kp_error *error)
    KP_NODISCARD;
/* Creates every document of a YAML stream, or brings the ones that exist to what it says (server-side apply). */
int cli_api_apply(struct cli_api *api, const char *yaml, struct kp_error *error) KP_NODISCARD;
/* Labels a control plane's Node as kubeadm does (a kubelet may not give itself a role), waiting until it has registered. */
int cli_api_mark_control_plane(struct cli_api *api, const char *node, int64_t deadline_ms, struct kp_error *error) KP_NODISCARD;
/* Cordons a node and evicts its pods, as kubectl drain --ignore-daemonsets --delete-emptydir-data --force: PodDisruptionBudgets
   are waited for, until the deadline (KP_ETIMEOUT names what is in the way). A node that is not there is drained. drain.c */
int cli_api_drain(struct cli_api *api, const char *node, int64_t deadline_ms, struct cli_progress *progress,
                  struct kp_error *error) KP_NODISCARD;
int cli_api_uncordon(struct cli_api *api, const char *node, struct kp_error *error) KP_NODISCARD; /* absent is fine */
int cli_api_delete_node(struct cli_api *api, const char *node, struct kp_error *error) KP_NODISCARD; /* absent is fine */
/* Brings a Node from one pool's labels and taints to another's; what others put on it stays. */
int cli_api_pool_node(struct cli_api *api, const char *node, const struct config_pool *before, const struct config_pool *after,
                      struct kp_error *error) KP_NODISCARD;
struct client;
struct client *cli_api_client(struct cli_api *api); /* borrowed */
/* name -> "True", "False" or "Unknown" of every Node's Ready condition. */
int cli_api_node_readiness(struct cli_api *api, struct kp_arena *arena, struct kp_string_map *ret,
                           struct kp_error *error) KP_NODISCARD;

/* ---- cluster.c */
/* Reads a cluster and opens its cloud. */
int cli_cluster_open(const char *name, struct kp_arena *arena, struct state_cluster *ret_cluster,
                     struct cloud **ret_cloud, struct kp_error *error) KP_NODISCARD;
/* The cloud of a config, as the environment says where it is. */
int cli_cloud_open(const struct config *config, struct kp_arena *arena, struct cloud **ret_cloud, struct kp_error *error) KP_NODISCARD;
/* Who asks the cloud, as the config says. */
struct cloud_account cli_account(const struct config *config, struct kp_arena *arena);
/* Opens the cloud anew when the wanted config may list other machines, or names another account; those that are nodes must still be listed. */
int cli_cloud_change(const struct config *wanted, const char *uid, struct kp_arena *arena, struct cloud **cloud, struct kp_error *error) KP_NODISCARD;
/* What can be known to be in the way of a new cluster before anything is made: prints a table of it and fails. */
int cli_cloud_check(const struct config *config, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;
/* What the cloud says to the machines and the network that the config asks for. */
struct cloud_bridge cli_bridge(const struct config *config); /* name NULL: none; borrows config */
bool cli_is_balanced(const struct config *config, const struct cloud *cloud); /* the API is behind a load balancer of the cloud's. endpoint.c */
int cli_cloud_check_wish(const struct config *config, struct cloud *cloud, struct kp_arena *arena, struct kp_error *error) KP_NODISCARD;
/* Rows of what a new cluster is made of: object, name, size, detail. */
int cli_wish_rows(const struct config *config, struct cloud *cloud, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error) KP_NODISCARD;
void cli_wish_print(const struct kp_value *rows, enum cli_output output); /* standard output */
void cli_wish_tell(const struct kp_value *rows);                          /* standard error, before it is made */
/* The machine that the user means: its name with or without "<cluster>-" in front. */
int cli_find_machine(struct cloud *cloud, const struct state_cluster *cluster, const char *word, struct kp_arena *arena,
                     struct cloud_machine *ret, struct kp_error *error) KP_NODISCARD;
/* Runs a command in a machine and appends what it wrote to its output, `max` bytes at most, the last ones. Its exit status must be 0. */
int cli_exec_output(struct cloud *cloud, const char *cluster_uid, const char *machine, const char *const *argv, size_t max,
                    struct kp_buf *out, struct kp_error *error) KP_NODISCARD;
/* The path of a file of the cluster's state. */
int cli_state_path(const char *cluster, const char *file, struct kp_arena *arena, const char **ret_path,
                   struct kp_error *error) KP_NODISCARD;
/* Where kubectl looks first: the first file of $KUBECONFIG, else ~/.kube/config. */
int cli_default_kubeconfig(struct kp_arena *arena, const char **ret_path, struct kp_error *error) KP_NODISCARD;
/* At most `max` words, at least `min`, or KP_EUSAGE that names the command. */
int cli_want_words(const char *words, const struct kp_strings *rest, size_t min, size_t max, struct kp_error *error)
    KP_NODISCARD;

/* ---- validate.c: the checks that make nothing in the cluster, as `-o json` has them */
int cli_validate_value(const char *cluster, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error) KP_NODISCARD;

/* ---- events.c: as `kprov events -o json` has them */
int cli_events_value(const struct state_cluster *cluster, struct cloud *cloud, struct kp_arena *arena, struct kp_value **ret,
                     struct kp_error *error) KP_NODISCARD;

/* ---- describe.c: as `kprov describe cluster -o json` has it */
int cli_describe_value(const char *cluster, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error) KP_NODISCARD;

/* ---- redact.c: appends the text without keys, tokens and passwords. Pure */
void cli_redact(const char *text, size_t len, struct kp_buf *out);

/* ---- certificates.c: every certificate that the cluster lives on */
struct cli_certificate {
    const char *where; /* "demo-cp-1:/etc/kubernetes/pki/apiserver.crt", "state:ca" */
    const char *subject;
    int64_t not_after_s;
    bool ca;
    const char *issuer, *fingerprint; /* common name; SHA-256 in hex */
};
struct cli_certificate_list {
    struct cli_certificate *items; /* the one that ends first, first */
    size_t len;
    struct kp_string_list problems; /* machines that could not be asked, and why */
};
/* From kprov's state, and from the machines that are on, where the driver can run commands. All in the arena. */
int cli_certificates(const struct state_cluster *cluster, struct cloud *cloud, const struct cloud_machine_list *machines,
                     struct kp_arena *arena, struct cli_certificate_list *ret, struct kp_error *error) KP_NODISCARD;
/* Pure: adds the certificates of a text of "## PATH" lines, each followed by PEM or a kubeconfig's base64 lines. */
void cli_certificates_parse(const char *machine, const char *text, size_t len, struct kp_arena *arena, struct cli_certificate_list *ret);

#endif
