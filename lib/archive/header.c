/* The 512 bytes that stand before each file of a tar archive. */
#include "lib/archive/archive.h"

#define NAME_BYTES 100
#define PREFIX_BYTES 155

struct ustar {
    char name[NAME_BYTES], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2], user[32],
        group[32], device_major[8], device_minor[8], prefix[PREFIX_BYTES], unused[12];
};
_Static_assert(sizeof(struct ustar) == ARCHIVE_BLOCK, "the format's own layout");

/* A longer name is cut at a '/' that leaves both halves short enough. */
static int split_name(const char *name, struct ustar *header, struct kp_error *error)
{
    size_t len = strlen(name);
    if (len > 0 && len <= NAME_BYTES) {
        memcpy(header->name, name, len);
        return 0;
    }
    for (size_t i = len; i-- > 0 && len - i - 1 <= NAME_BYTES;) {
        if (name[i] != '/' || i > PREFIX_BYTES || i == 0 || i + 1 == len)
            continue;
        memcpy(header->prefix, name, i);
        memcpy(header->name, name + i + 1, len - i - 1);
        return 0;
    }
    return kp_fail(error, KP_EINVALID, "\"%s\" is no name for a file in an archive", name);
}

static void put_octal(char *field, size_t size, unsigned long long value)
{
    char text[32];
    snprintf(text, sizeof(text), "%0*llo", (int)size - 1, value);
    memcpy(field, text, size); /* with the NUL: every value that is put here fits */
}

int archive_header(const char *name, size_t size, int64_t modified_s, char ret_block[ARCHIVE_BLOCK], struct kp_error *error)
{
    struct ustar header = {.type = '0', .magic = "ustar", .version = {'0', '0'}, .user = "root", .group = "root"};
    unsigned sum = 0;
    if (size > ARCHIVE_FILE_MAX)
        return kp_fail(error, KP_ETOOLARGE, "%s: %zu bytes are too many for the archive", name, size);
    int r = split_name(name, &header, error);
    if (r < 0)
        return r;
    put_octal(header.mode, sizeof(header.mode), 0644);
    put_octal(header.uid, sizeof(header.uid), 0);
    put_octal(header.gid, sizeof(header.gid), 0);
    put_octal(header.size, sizeof(header.size), size);
    put_octal(header.mtime, sizeof(header.mtime), modified_s > 0 && modified_s < (1LL << 33) ? (unsigned long long)modified_s : 0);
    put_octal(header.device_major, sizeof(header.device_major), 0);
    put_octal(header.device_minor, sizeof(header.device_minor), 0);
    memset(header.checksum, ' ', sizeof(header.checksum)); /* counted as blanks */
    for (size_t i = 0; i < sizeof(header); i++)
        sum += ((const unsigned char *)&header)[i];
    snprintf(header.checksum, sizeof(header.checksum), "%06o", sum); /* six digits, a NUL, and the blank that is there */
    memcpy(ret_block, &header, sizeof(header));
    return 0;
}
