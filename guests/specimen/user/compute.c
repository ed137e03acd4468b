/* Counts primes for ever, by dividing. It asks the kernel for nothing: only the timer takes the processor from it. */
#include "user.h"

/* Its own memory: the candidate, where only its page tables lead. */
volatile u64 compute_own;

static int is_prime(u64 number)
{
	for (u64 divisor = 3; divisor * divisor <= number; divisor += 2)
		if (number % divisor == 0)
			return 0;
	return 1;
}

void compute(void)
{
	u64 primes = 1;
	for (u64 number = 3;; number += 2) {
		compute_own = number;
		ON_BOARD(compute_candidate) = number;
		if (is_prime(number))
			ON_BOARD(compute_primes) = ++primes;
	}
}
