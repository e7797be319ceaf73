/* What the two halves of the binder share: claims are bound, volumes told where they stand. */
#ifndef KCM_VOLUME_BINDER_H
#define KCM_VOLUME_BINDER_H

#include "controlplane/controller-manager/storage.h"

int binder_plan_claim(const struct plan_input *in, struct plan *plan, struct kp_error *error);
int binder_plan_volume(const struct plan_input *in, struct plan *plan, struct kp_error *error);
/* Writes the phase unless the volume has it; true when it is written. */
bool binder_set_phase(const struct plan_input *in, struct plan *plan, const struct k8s_persistent_volume *volume, const char *phase,
                      const char *message);

#endif
