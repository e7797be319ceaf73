/* Subjects and subject alternative names, read from and written into certificates and requests. */
#include "lib/tls/tls_internal.h"

#include <arpa/inet.h>
#include <openssl/err.h>

/* A text in the arena; NULL when it holds a NUL byte, which would make it read differently here and elsewhere. */
static const char *asn1_text(struct kp_arena *arena, const ASN1_STRING *string)
{
    unsigned char *utf8 = NULL;
    int len = ASN1_STRING_to_UTF8(&utf8, string);
    if (len < 0) {
        ERR_clear_error();
        return NULL;
    }
    const char *text = memchr(utf8, 0, (size_t)len) ? NULL : kp_arena_strndup(arena, (const char *)utf8, (size_t)len);
    OPENSSL_free(utf8);
    return text;
}

static int read_subject(struct kp_arena *arena, const X509_NAME *subject, struct tls_cert_info *info,
                        struct kp_error *error)
{
    info->common_name = "";
    int entries = KP_MIN(X509_NAME_entry_count(subject), TLS_CERT_NAMES_MAX);
    const char **organizations = KP_NEW_ARRAY(arena, const char *, (size_t)KP_MAX(entries, 0));
    info->organizations = organizations;
    for (int i = 0; i < X509_NAME_entry_count(subject); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(subject, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
        if (nid != NID_commonName && nid != NID_organizationName)
            continue;
        const char *text = asn1_text(arena, X509_NAME_ENTRY_get_data(entry));
        if (!text)
            return kp_fail(error, KP_EBADREQUEST, "a name in the subject is no text");
        if (nid == NID_commonName) {
            info->common_name = text;
            continue;
        }
        if (info->organization_count == TLS_CERT_NAMES_MAX)
            return kp_fail(error, KP_ETOOLARGE, "more than %d organisations", TLS_CERT_NAMES_MAX);
        organizations[info->organization_count++] = text;
    }
    return 0;
}

static const char *ip_text(struct kp_arena *arena, const ASN1_OCTET_STRING *address)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(address);
    const unsigned char *bytes = ASN1_STRING_get0_data(address);
    if ((len != 4 && len != 16) || !inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof(text)))
        return NULL;
    return kp_arena_strdup(arena, text);
}

int tls_names_read(struct kp_arena *arena, const X509_NAME *subject, const GENERAL_NAMES *sans, struct tls_cert_info *info,
               size_t *ret_others, struct kp_error *error)
{
    int rc = read_subject(arena, subject, info, error);
    if (rc < 0)
        return rc;
    size_t names = (size_t)KP_MAX(KP_MIN(sk_GENERAL_NAME_num(sans), TLS_CERT_NAMES_MAX), 0);
    const char **dns = KP_NEW_ARRAY(arena, const char *, names);
    const char **ips = KP_NEW_ARRAY(arena, const char *, names);
    info->dns_names = dns;
    info->ip_addresses = ips;
    size_t others = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(sans); i++) {
        int type;
        const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(sans, i), &type);
        if (type != GEN_DNS && type != GEN_IPADD) {
            others++;
            continue;
        }
        const char *text = type == GEN_DNS ? asn1_text(arena, value) : ip_text(arena, value);
        if (!text)
            return kp_fail(error, KP_EBADREQUEST, "a subject alternative name is malformed");
        size_t *count = type == GEN_DNS ? &info->dns_name_count : &info->ip_address_count;
        if (*count == TLS_CERT_NAMES_MAX)
            return kp_fail(error, KP_ETOOLARGE, "more than %d subject alternative names", TLS_CERT_NAMES_MAX);
        (type == GEN_DNS ? dns : ips)[(*count)++] = text;
    }
    if (ret_others)
        *ret_others = others;
    return 0;
}

static int add_entry(X509_NAME *name, const char *field, const char *text, struct kp_error *error)
{
    if (X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, (const unsigned char *)text, -1, -1, 0))
        return 0;
    return tls_openssl_fail(error, KP_EINVALID, "subject %s=%.200s", field, text);
}

int tls_names_write_subject(X509_NAME *name, const struct tls_subject *subject, struct kp_error *error)
{
    int rc = 0;
    for (size_t i = 0; subject->organizations && subject->organizations[i] && rc == 0; i++) {
        if (i == TLS_CERT_NAMES_MAX)
            return kp_fail(error, KP_EINVALID, "more than %d organisations", TLS_CERT_NAMES_MAX);
        rc = add_entry(name, "O", subject->organizations[i], error);
    }
    if (rc == 0 && !kp_empty(subject->common_name))
        rc = add_entry(name, "CN", subject->common_name, error);
    return rc;
}

/* Takes value over. */
static int push_name(GENERAL_NAMES *sans, int type, ASN1_STRING *value, struct kp_error *error)
{
    GENERAL_NAME *name = value ? GENERAL_NAME_new() : NULL;
    if (!name) {
        ASN1_STRING_free(value);
        return tls_openssl_fail(error, KP_EINTERNAL, "make a subject alternative name");
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (!sk_GENERAL_NAME_push(sans, name)) {
        GENERAL_NAME_free(name);
        return tls_openssl_fail(error, KP_EINTERNAL, "make a subject alternative name");
    }
    return 0;
}

static int push_dns(GENERAL_NAMES *sans, const char *text, struct kp_error *error)
{
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
            return kp_fail(error, KP_EINVALID, "DNS name \"%.200s\" holds a character that is not allowed", text);
    }
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (value && !ASN1_STRING_set(value, text, -1)) {
        ASN1_STRING_free(value);
        value = NULL;
    }
    return push_name(sans, GEN_DNS, value, error);
}

int tls_names_make_sans(const struct tls_subject *subject, GENERAL_NAMES **ret_sans, struct kp_error *error)
{
    GENERAL_NAMES *sans = sk_GENERAL_NAME_new_null();
    int rc = sans ? 0 : tls_openssl_fail(error, KP_EINTERNAL, "make subject alternative names");
    for (size_t i = 0; rc == 0 && subject->dns_names && subject->dns_names[i]; i++) {
        rc = i < TLS_CERT_NAMES_MAX ? push_dns(sans, subject->dns_names[i], error)
                                    : kp_fail(error, KP_EINVALID, "more than %d DNS names", TLS_CERT_NAMES_MAX);
    }
    for (size_t i = 0; rc == 0 && subject->ip_addresses && subject->ip_addresses[i]; i++) {
        ASN1_OCTET_STRING *value = a2i_IPADDRESS(subject->ip_addresses[i]);
        if (!value)
            rc = tls_openssl_fail(error, KP_EINVALID, "\"%.100s\" is no IP address", subject->ip_addresses[i]);
        else if (i == TLS_CERT_NAMES_MAX)
            rc = kp_fail(error, KP_EINVALID, "more than %d IP addresses", TLS_CERT_NAMES_MAX);
        if (rc == 0)
            rc = push_name(sans, GEN_IPADD, value, error);
        else
            ASN1_OCTET_STRING_free(value);
    }
    if (rc < 0 || sk_GENERAL_NAME_num(sans) == 0) {
        GENERAL_NAMES_free(sans);
        sans = NULL;
    }
    if (rc == 0)
        *ret_sans = sans;
    return rc;
}
