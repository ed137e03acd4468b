/* What the kernel, its processes and its linker script agree on: addresses, system calls, errors.
 * It never says how any of it is done. */
#ifndef ABI_H
#define ABI_H

#define PAGE_SIZE 4096

/* A process's own addresses: all within the 2 MiB of one page table. */
#define USER_BASE 0x40000000      /* code, read-only, the same pages for all */
#define USER_BOARD 0x40100000     /* the notice board: one page, the same for all */
#define USER_DATA 0x40140000      /* variables, a page at first touch */
#define USER_HEAP 0x40180000      /* what sbrk hands out, a page at first touch */
#define USER_HEAP_END 0x401a0000  /* at most 32 pages */
#define USER_STACK_END 0x401fc000 /* the stack grows down to here: 4 pages */
#define USER_STACK 0x40200000     /* and begins below here */
#define USER_END 0x40200000

/* System calls: `int 4`, number in RAX, arguments in RDI, RSI, RDX; the result comes back in RAX. */
#define SYSTEM_CALL 4
#define SYS_EXIT 0   /* (code): ends the process */
#define SYS_WRITE 1  /* (text, length up to 256): to the serial line; how many bytes */
#define SYS_YIELD 2  /* (): lets the next one run */
#define SYS_SLEEP 3  /* (ticks): waits */
#define SYS_GETPID 4 /* (): the number of this process */
#define SYS_TICKS 5  /* (): ticks since the kernel began */
#define SYS_SBRK 6   /* (bytes): grows the heap; where it ended until now */
#define SYS_CARD 7   /* (operation, a, b): has the test card work; its result */
#define SYS_COUNT 8

/* Operations of the card. The first two take numbers, the others a buffer in one page and its length. */
#define CARD_ADD 1
#define CARD_MULTIPLY 2
#define CARD_CHECKSUM 3
#define CARD_UPPER 4

/* What goes wrong comes back as the negative of one of these. */
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define ENODEV 19
#define EINVAL 22
#define EIO 5
#define ENOSYS 38
#define ETIMEDOUT 110

#ifndef __ASSEMBLER__
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

/* A word on the notice board: its symbol is its physical address, by which host and kernel find it. */
#define BOARD __attribute__((section(".board")))
extern volatile u64 rogue_orders, printer_period, courier_period;
extern volatile u64 compute_candidate, compute_primes, printer_lines;
extern volatile u64 courier_done, courier_wrong, courier_failed, courier_result, rogue_survived;
#endif

#endif
