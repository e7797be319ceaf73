/* Parameters of AWS's query APIs. */
#include "cloud/aws/aws_internal.h"

void aws_form_done(struct aws_form *form)
{
    kp_buf_done(&form->text);
    *form = (struct aws_form){0};
}

/* A space is '+', as the SDKs write a form: moto reads the form and checks the signature over its own writing of it. */
static void escape(struct kp_buf *out, const char *text)
{
    while (*text) {
        char word[256];
        size_t len = KP_MIN(strcspn(text, " "), sizeof(word) - 1);
        memcpy(word, text, len);
        word[len] = 0;
        rest_escape(out, word);
        text += len;
        for (; *text == ' '; text++)
            kp_buf_putc(out, '+');
    }
}

void aws_set(struct aws_form *form, const char *name, const char *value)
{
    if (form->text.len)
        kp_buf_putc(&form->text, '&');
    escape(&form->text, name);
    kp_buf_putc(&form->text, '=');
    escape(&form->text, value);
}

void aws_set_int(struct aws_form *form, const char *name, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)value);
    aws_set(form, name, text);
}

void aws_set_at(struct aws_form *form, const char *value, const char *name_format, ...)
{
    char name[128];
    va_list args;
    va_start(args, name_format);
    int len = vsnprintf(name, sizeof(name), name_format, args);
    va_end(args);
    KP_ASSERT(len > 0 && (size_t)len < sizeof(name));
    aws_set(form, name, value);
}

void aws_filter(struct aws_form *form, const char *name, const char *value)
{
    form->filters++;
    aws_set_at(form, name, "Filter.%d.Name", form->filters);
    aws_set_at(form, value, "Filter.%d.Value.1", form->filters);
}

void aws_filter_more(struct aws_form *form, int n, const char *value)
{
    aws_set_at(form, value, "Filter.%d.Value.%d", form->filters, n);
}

void aws_tag(struct aws_form *form, const char *key, const char *value)
{
    form->tags++;
    aws_set_at(form, key, "TagSpecification.%d.Tag.%d.Key", form->specs, form->tags);
    aws_set_at(form, value, "TagSpecification.%d.Tag.%d.Value", form->specs, form->tags);
}

void aws_tags(struct aws_form *form, const char *resource_type, const char *uid, const char *name)
{
    char shown[2 * CLOUD_NAME_MAX + 8];
    form->specs++;
    form->tags = 0;
    aws_set_at(form, resource_type, "TagSpecification.%d.ResourceType", form->specs);
    aws_tag(form, AWS_TAG_CLUSTER, uid);
    aws_tag(form, AWS_TAG_NAME, name);
    if (kp_streq(resource_type, "instance"))
        snprintf(shown, sizeof(shown), "%s", name);
    else
        snprintf(shown, sizeof(shown), "kprov-%.8s-%s", uid, name);
    aws_tag(form, "Name", shown);
}

void aws_token(struct aws_form *form)
{
    char token[37];
    kp_uuid4(token);
    aws_set(form, "ClientToken", token);
}
