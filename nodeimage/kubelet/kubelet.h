/* kubelet: the agent of a node. Runs the pods of the API and of a manifest folder in a container runtime. */
#ifndef KUBELET_H
#define KUBELET_H

/* Runs with the command line given until SIGTERM or SIGINT; the exit status of the program. Running containers are left
   alone when it ends. */
int kubelet_main(int argc, char **argv);

#endif
