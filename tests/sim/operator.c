/* What an operator does: membership, leadership, maintenance, and replacing what cannot come back. */
#include "tests/sim/world.h"

void operator_change(void) {}
void operator_transfer(void) {}
void operator_maintain(void) {}
bool operator_heal(void) { return member_leader() != NULL; }
