/* The command line of the load generator. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>

enum {
    NUMBER = 8, TIME = 16, STAMP = NUMBER + TIME, /* bytes at the start of a payload */
    MAX_SIZE = 60000,                             /* of a payload */
};

struct options {
    int ports[16], port_count, pairs, window, size, opening;
    double rate, warmup, seconds, idle, quiet, at;
    int kill;
    bool cut, both_ways;
    const char *host, *app, *dialect;
};

extern struct options opt;

/* Read the command line and add the processes of --pids; print the usage and exit if it is invalid. */
void parse(int argc, char **argv);

#endif
