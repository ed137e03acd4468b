/* What a process has: system calls and the notice board. It never holds a variable. */
#ifndef USER_H
#define USER_H

#include "../abi.h"

extern char board[];

/* A word of the board, where processes see it. */
#define ON_BOARD(word) (*(volatile u64 *)((u64)&(word) - (u64)board + USER_BOARD))

static inline i64 system_call(u64 number, u64 a, u64 b, u64 c)
{
	i64 result;
	__asm__ volatile("int %1" : "=a"(result) : "i"(SYSTEM_CALL), "a"(number), "D"(a), "S"(b), "d"(c) : "memory");
	return result;
}

static inline i64 sleep(u64 ticks)
{
	return system_call(SYS_SLEEP, ticks, 0, 0);
}

#endif
