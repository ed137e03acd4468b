/* The notice board: one page that kernel, processes and host all read and write. Nobody may rely on what is there. */
#include "../abi.h"

BOARD volatile u64 rogue_orders = 0;
BOARD volatile u64 rogue_survived = 0; /* orders that it outlived */
BOARD volatile u64 printer_period = 25; /* ticks between two lines */
BOARD volatile u64 printer_lines = 0;
BOARD volatile u64 courier_period = 10; /* ticks between two visits */
BOARD volatile u64 courier_done = 0;    /* visits with the right result */
BOARD volatile u64 courier_wrong = 0;   /* visits with another one */
BOARD volatile u64 courier_failed = 0;  /* visits that ended in an error, such as: no card */
BOARD volatile u64 courier_result = 0;  /* what came back last */
BOARD volatile u64 compute_candidate = 0;
BOARD volatile u64 compute_primes = 0;  /* primes below the candidate */
