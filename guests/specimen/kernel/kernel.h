/* The kernel's structures and functions, one block per file. It never holds code but for single instructions. */
#ifndef KERNEL_H
#define KERNEL_H

#include "../abi.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define KERNEL_CODE 0x08
#define USER_DATA_SELECTOR 0x1b
#define USER_CODE_SELECTOR 0x23

#define VECTOR_NMI 2
#define VECTOR_PAGE_FAULT 14
#define VECTOR_TIMER 0x40
#define VECTOR_CARD 0x45
#define VECTOR_SPURIOUS 0xff

/* Registers of an interrupted process, in the order in which entry.S and the processor push them. */
struct regs {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
	u64 vector, error;
	u64 rip, cs, rflags, rsp, ss;
};

/* In step with `state_names`. */
enum state { RUNNING, READY, SLEEPING, WAITING, ZOMBIE, FAULTED };

/* One process. The list is circular and begins at `init_task`, which is the idle one. */
struct task {
	struct regs frame; /* first: interrupts from ring 3 push right here */
	struct task *next;
	u64 pid;
	char name[16];
	u64 state;
	u64 cr3;
	u64 *table;     /* its page table */
	u64 wake_at;    /* tick, while SLEEPING or WAITING */
	u64 brk;        /* end of its heap */
	u64 program;    /* index into `programs` */
	u64 ticks;      /* of the timer that hit it */
	u64 syscalls;
	u64 switches;   /* how often it was given the processor */
	u64 page_faults; /* that gave it a page */
	u64 born, died; /* ticks */
	u64 exit_code;
	u64 fault_vector, fault_error, fault_address, fault_rip; /* why it is FAULTED */
};

struct program {
	char name[16];
	void (*entry)(void);
	u64 restarts; /* is it started again when it has died? */
};

/* One line of the kernel's log. */
struct log_line {
	u64 sequence; /* from 1 on */
	u64 tick;
	char text[80];
};

/* What the host may set before the start. */
struct boot_options {
	u64 tick_ns;   /* period of the timer */
	u64 quantum;   /* ticks until the next one's turn */
	u64 processes; /* bit n: start program n */
	u64 quiet;     /* nothing but what processes print */
};

/* A field of a structure, for readers from outside. */
struct field {
	char type[16], name[16], kind[8];
	u32 offset, size;
};

/* entry.S, tables.S, specimen.ld */
extern char text_start[], text_end[], rodata_end[], user_start[], user_end[], user_bss_end[], user_load[], board[];
extern u64 kernel_pml4[], kernel_pdpt[], device_pd[], low_pd[], low_pt[], gdt[];

/* task.c */
extern struct task init_task, *current;
extern const struct program programs[];
extern u64 ticks, resched, system_calls, context_switches;
struct task *spawn(u64 program);
struct regs *next_frame(void);
void tick(void);
void wake(struct task *task);
void end_task(struct task *task, enum state state);
void start_processes(void);

/* memory.c */
extern u64 pages_used;
u64 page_alloc(void);
void page_free(u64 page);
bool make_space(struct task *task);
void free_space(struct task *task);
u64 user_page(struct task *task, u64 address);
bool demand_map(struct task *task, u64 address);
void protect_kernel(void);

/* heap.c */
void *kmalloc(u64 size);
void kfree(void *block);

/* log.c */
extern struct boot_options boot_options;
void log(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));
void serial_init(void);
void serial_write(const char *text, u64 length);

/* apic.c */
void apic_init(void);
void apic_eoi(void);
void ioapic_route(u32 pin, u32 vector);

/* card.c */
i64 card_start(struct task *task, u64 operation, u64 a, u64 b);
void card_interrupt(void);
void card_timeout(struct task *task);
void card_forget(struct task *task);

/* syscall.c */
void system_call(struct task *task);

static inline void outb(u16 port, u8 value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline void outs(u16 port, const char *text, u64 length)
{
	__asm__ volatile("rep outsb" : "+S"(text), "+c"(length) : "d"(port) : "memory");
}

static inline u32 mmio_read(u64 at)
{
	u32 value;
	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(at) : "memory");
	return value;
}

static inline void mmio_write(u64 at, u32 value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(at) : "memory");
}

static inline u64 read_cr2(void)
{
	u64 value;
	__asm__ volatile("mov %%cr2, %0" : "=r"(value));
	return value;
}

static inline void load_cr3(u64 value)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline void zero_page(u64 page)
{
	u64 words = PAGE_SIZE / 8;
	__asm__ volatile("rep stosq" : "+D"(page), "+c"(words) : "a"(0UL) : "memory");
}

#endif
