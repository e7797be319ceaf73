/* Messages: packing, unpacking into arenas, and cutting a stream of bytes into frames. */
#include "lib/grpc/grpc_internal.h"

static void put_u32(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)(value >> 24);
    to[1] = (uint8_t)(value >> 16);
    to[2] = (uint8_t)(value >> 8);
    to[3] = (uint8_t)value;
}

struct kp_blob *grpc_pack(const ProtobufCMessage *message)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    KP_ASSERT(size <= UINT32_MAX);
    struct kp_blob *blob = kp_blob_new(NULL, size + GRPC_FRAME_HEADER_BYTES);
    blob->data[0] = 0; /* not compressed */
    put_u32(blob->data + 1, (uint32_t)size);
    size_t packed = protobuf_c_message_pack(message, blob->data + GRPC_FRAME_HEADER_BYTES);
    KP_ASSERT(packed == size);
    return blob;
}

static void *arena_alloc(void *arena, size_t size)
{
    return kp_arena_try(arena, size);
}

static void arena_free(void *arena, void *p)
{
}

/* Reads a varint at data[*at]; false when it is cut off or too long. */
static bool read_varint(const uint8_t *data, size_t len, size_t *at, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < len; shift += 7) {
        uint8_t byte = data[(*at)++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* protobuf-c descends without a bound: a message that nests too deep would overflow the stack. Walks the message fields
   alone; other malformations are left for the parser to find. */
static bool depth_fits(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len, int depth)
{
    for (size_t at = 0; at < len;) {
        uint64_t tag, value;
        if (!read_varint(data, len, &at, &tag))
            return false;
        switch (tag & 7) {
        case 0:
            if (!read_varint(data, len, &at, &value))
                return false;
            continue;
        case 1:
            at += 8;
            continue;
        case 5:
            at += 4;
            continue;
        case 2:
            break;
        default:
            return false;
        }
        if (!read_varint(data, len, &at, &value) || value > len - at)
            return false;
        const ProtobufCFieldDescriptor *field =
            tag >> 3 <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(type, (unsigned)(tag >> 3)) : NULL;
        if (field && field->type == PROTOBUF_C_TYPE_MESSAGE &&
            (depth >= GRPC_MESSAGE_DEPTH_MAX || !depth_fits(field->descriptor, data + at, (size_t)value, depth + 1)))
            return false;
        at += (size_t)value;
    }
    return true;
}

ProtobufCMessage *grpc_unpack(const ProtobufCMessageDescriptor *type, struct kp_arena *arena, const void *data,
                              size_t len)
{
    ProtobufCAllocator allocator = {.alloc = arena_alloc, .free = arena_free, .allocator_data = arena};
    if (!depth_fits(type, data, len, 1))
        return NULL;
    return protobuf_c_message_unpack(type, &allocator, len, data);
}

ProtobufCMessage *grpc_message_new(const ProtobufCMessageDescriptor *type, struct kp_arena *arena)
{
    ProtobufCMessage *message = kp_arena_alloc(arena, type->sizeof_message);
    protobuf_c_message_init(type, message);
    return message;
}

void grpc_frames_feed(struct grpc_frames *frames, const void *data, size_t len)
{
    if (frames->at) {
        kp_buf_consume(&frames->buf, frames->at);
        frames->at = 0;
    }
    kp_buf_append(&frames->buf, data, len);
}

int grpc_frames_next(struct grpc_frames *frames, struct kp_bytes *ret_message)
{
    size_t have = frames->buf.len - frames->at;
    if (!have && frames->buf.cap > 65536) { /* one large message must not hold its memory for the life of a stream */
        kp_buf_done(&frames->buf);
        frames->at = 0;
    }
    if (have < GRPC_FRAME_HEADER_BYTES)
        return 0;
    const uint8_t *header = (const uint8_t *)frames->buf.data + frames->at;
    uint32_t size = (uint32_t)header[1] << 24 | (uint32_t)header[2] << 16 | (uint32_t)header[3] << 8 | header[4];
    if (header[0] > 1)
        return -GRPC_INTERNAL;
    if (header[0] == 1)
        return -GRPC_UNIMPLEMENTED;
    if (size > frames->message_bytes_max)
        return -GRPC_RESOURCE_EXHAUSTED;
    if (have - GRPC_FRAME_HEADER_BYTES < size)
        return 0;
    *ret_message = (struct kp_bytes){header + GRPC_FRAME_HEADER_BYTES, size};
    frames->at += GRPC_FRAME_HEADER_BYTES + size;
    return 1;
}

bool grpc_frames_empty(const struct grpc_frames *frames)
{
    return frames->buf.len == frames->at;
}

void grpc_frames_done(struct grpc_frames *frames)
{
    kp_buf_done(&frames->buf);
    frames->at = 0;
}
