#define _GNU_SOURCE
#include "options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "measure.h"

struct options opt = {
    .pairs = 1, .window = 1, .size = 64, .opening = 32, .warmup = 1, .seconds = 5, .quiet = 3,
    .host = "127.0.0.1", .app = "bench", .dialect = "classic",
};

static const char usage[] =
    "usage: load --ports A,B[,A,B…] [options]\n"
    "Connect pairs of devices, a<i> to port A and b<i> to port B, send payloads from a<i> to b<i>,\n"
    "check and time them. Print one JSON object; exit with 0 if every payload arrived once, in order\n"
    "and undamaged.\n\n"
    "  --dialect NAME    protocol of the servers: classic, v1, plain, socketio, mqtt0, mqtt1, nats,\n"
    "                    centrifugo [classic]\n"
    "  --pairs N         pairs of devices, spread over the pairs of ports [1]\n"
    "  --window N        closed loop: payloads in flight per sender [1]\n"
    "  --rate R          open loop: payloads per second in total, whether or not they arrive\n"
    "  --size BYTES      of a payload, 24 to 60000 [64]\n"
    "  -2, --both-ways   also from b<i> to a<i>\n"
    "  --opening N       pairs that connect concurrently [32]\n"
    "  --warmup S        seconds of load before measuring [1]\n"
    "  --seconds S       seconds of measuring [5]\n"
    "  --quiet S         seconds after the last arrival until missing payloads count as lost [3]\n"
    "  --idle S          send nothing, hold the connections for S seconds\n"
    "  --app NAME        app of the devices [bench]\n"
    "  --host ADDRESS    of the servers, IPv4 [127.0.0.1]\n"
    "  --pids NAME=PID,… processes to measure (CPU time, memory)\n"
    "  --at S            seconds of sending before --kill or --cut\n"
    "  --kill PID        send SIGKILL to this process; devices that lose their connections reconnect\n"
    "  --cut             cut the connections of all b<i>; they reconnect half a second later\n";

void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"ports", 1, 0, 'p'},       {"pairs", 1, 0, 'n'},       {"window", 1, 0, 'w'},      {"rate", 1, 0, 'r'},
        {"size", 1, 0, 's'},        {"both-ways", 0, 0, '2'},   {"opening", 1, 0, 'o'},     {"warmup", 1, 0, 'W'},
        {"seconds", 1, 0, 'd'},     {"quiet", 1, 0, 'q'},       {"idle", 1, 0, 'i'},        {"app", 1, 0, 'a'},
        {"host", 1, 0, 'H'},        {"dialect", 1, 0, 'D'},     {"pids", 1, 0, 'P'},        {"at", 1, 0, 't'},
        {"kill", 1, 0, 'k'},        {"cut", 0, 0, 'c'},         {"help", 0, 0, 'h'},        {0, 0, 0, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "2h", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            for (char *item = strtok(optarg, ","); item && opt.port_count < 16; item = strtok(NULL, ","))
                opt.ports[opt.port_count++] = atoi(item);
            break;
        case 'D': opt.dialect = optarg; break;
        case 'o': opt.opening = atoi(optarg); break;
        case 't': opt.at = atof(optarg); break;
        case 'k': opt.kill = atoi(optarg); break;
        case 'c': opt.cut = true; break;
        case 'q': opt.quiet = atof(optarg); break;
        case 'n': opt.pairs = atoi(optarg); break;
        case 'w': opt.window = atoi(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 's': opt.size = atoi(optarg); break;
        case '2': opt.both_ways = true; break;
        case 'W': opt.warmup = atof(optarg); break;
        case 'd': opt.seconds = atof(optarg); break;
        case 'i': opt.idle = atof(optarg); break;
        case 'a': opt.app = optarg; break;
        case 'H': opt.host = optarg; break;
        case 'P':
            for (char *item = strtok(optarg, ","); item; item = strtok(NULL, ",")) {
                char *equals = strchr(item, '=');
                if (!equals || atoi(equals + 1) <= 0) fail("--pids: expected NAME=PID, got %s", item);
                *equals = 0;
                add_process(item, atoi(equals + 1));
            }
            break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    bool ports = opt.port_count && opt.port_count % 2 == 0;
    for (int i = 0; i < opt.port_count; i++) ports = ports && opt.ports[i] > 0;
    if (optind < argc || !ports || opt.pairs < 1 || opt.window < 1 || opt.opening < 1 || opt.size < STAMP ||
        opt.size > MAX_SIZE || opt.rate < 0 || opt.warmup < 0 || opt.seconds <= 0 || opt.kill < 0) {
        fputs(usage, stderr);
        exit(2);
    }
}
