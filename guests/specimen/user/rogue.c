/* Behaves, until `rogue_orders` on the board says otherwise. It is meant to be killed: the kernel starts it again. */
#include "user.h"

#define POLL_PERIOD 5

/* The orders by number; a reader from outside finds their names here. */
const char rogue_order_names[][20] = {
	"behave",       "write_null",    "privileged",  "jump_to_kernel", "divide_by_zero", "spin",   "overflow_stack",
	"write_code",   "undefined",     "execute_data", "read_kernel",   "port",           "exit",   "bad_call",
	"bad_pointer",  "eat_memory",
};
enum { BEHAVE, WRITE_NULL, PRIVILEGED, JUMP_TO_KERNEL, DIVIDE_BY_ZERO, SPIN, OVERFLOW_STACK, WRITE_CODE, UNDEFINED,
       EXECUTE_DATA, READ_KERNEL, PORT, EXIT, BAD_CALL, BAD_POINTER, EAT_MEMORY };

volatile u64 rogue_scratch[16];
extern char entry_base[];

static void poke(u64 at)
{
	__asm__ volatile("movq $1, (%0)" : : "r"(at) : "memory");
}

static void call(u64 at)
{
	__asm__ volatile("call *%0" : : "r"(at) : "memory");
}

static void overflow(void)
{
	__asm__ volatile("1: push %rax; jmp 1b");
}

static void divide(void)
{
	__asm__ volatile("xor %%ecx, %%ecx; mov $1, %%eax; xor %%edx, %%edx; div %%ecx" : : : "rax", "rcx", "rdx");
}

/* As long as the order stands. */
static void spin(void)
{
	while (ON_BOARD(rogue_orders) == SPIN)
		rogue_scratch[0]++;
}

/* Takes all that sbrk gives, and touches each page. */
static void eat(void)
{
	for (;;) {
		i64 at = system_call(SYS_SBRK, PAGE_SIZE, 0, 0);
		if (at < 0)
			break;
		poke((u64)at);
	}
}

static void obey(u64 order)
{
	switch (order) {
	case WRITE_NULL: poke(0); break;
	case PRIVILEGED: __asm__ volatile("hlt"); break;
	case JUMP_TO_KERNEL: call((u64)entry_base); break;
	case DIVIDE_BY_ZERO: divide(); break;
	case SPIN: spin(); break;
	case OVERFLOW_STACK: overflow(); break;
	case WRITE_CODE: poke(USER_BASE); break;
	case UNDEFINED: __asm__ volatile("ud2"); break;
	case EXECUTE_DATA: rogue_scratch[0] = 0xc3; call((u64)rogue_scratch); break;
	case READ_KERNEL: __asm__ volatile("movq (%0), %%rax" : : "r"(entry_base) : "rax"); break;
	case PORT: __asm__ volatile("outb %%al, $0xe9" : : "a"('!')); break;
	case EXIT: system_call(SYS_EXIT, 7, 0, 0); break;
	case BAD_CALL: rogue_scratch[1] = (u64)system_call(0x1234, 0, 0, 0); break;
	case BAD_POINTER: rogue_scratch[1] = (u64)system_call(SYS_WRITE, (u64)entry_base, 16, 0); break;
	case EAT_MEMORY: eat(); break;
	}
}

void rogue(void)
{
	for (;;) {
		u64 order = ON_BOARD(rogue_orders);
		if (order != BEHAVE) {
			if (order != SPIN)
				ON_BOARD(rogue_orders) = BEHAVE;
			obey(order);
			ON_BOARD(rogue_survived)++;
		}
		sleep(POLL_PERIOD);
	}
}
