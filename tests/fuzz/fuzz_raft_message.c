/* Bytes from a peer: decoding never crashes, what it accepts encodes to the same bytes, and stepping it is safe. */
#include "controlplane/etcd/raft/raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t zero(void *ctx, uint64_t bound) { return 0; }

static void step(const struct raft_message *message)
{
    struct raft_config config = {.id = 1, .random = zero, .pre_vote = true, .check_quorum = true};
    struct raft *raft = NULL;
    for (uint64_t i = 1; i <= 3; i++)
        raft_id_set_add(&config.conf.voters, i);
    KP_ASSERT(raft_new(&config, &raft, NULL) == 0);
    struct kp_error error = {0};
    if (raft_step(raft, message, &error) < 0)
        KP_ASSERT(error.message[0] != '\0');
    for (int i = 0; i < 4 && raft_has_ready(raft); i++) {
        raft_ready(raft);
        raft_advance(raft);
    }
    raft_free(raft);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct raft_message message;
    struct kp_error error = {0};
    KP_AUTO_BUF struct kp_buf fixed = {0}, again = {0};
    /* As it is, and with the checksum made good, which mutation rarely hits. */
    kp_buf_append(&fixed, data, len);
    uint32_t crc = kp_crc32c(0, data, len);
    for (int i = 0; i < 4; i++)
        kp_buf_putc(&fixed, (char)(crc >> (8 * i)));
    if (raft_message_decode(data, len, &message, &error) == 0)
        raft_message_done(&message);
    if (raft_message_decode(fixed.data, fixed.len, &message, &error) < 0)
        return 0;
    raft_message_encode(&again, &message);
    KP_ASSERT(again.len == fixed.len && memcmp(again.data, fixed.data, fixed.len) == 0);
    step(&message);
    raft_message_done(&message);
    return 0;
}
