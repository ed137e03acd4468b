/* From the first C function to the first process, and what becomes of each interrupt.
 * It never does the work of an interrupt itself. */
#include "kernel.h"

extern struct __attribute__((packed)) {
	u32 reserved;
	u64 rsp0;
} tss;

#define TSS_SELECTOR 0x28
#define PAGE_WAS_PRESENT 1
#define FIRST_INTERRUPT 32

u64 interrupts[256]; /* how often each vector came */

static void load_tss(void)
{
	u64 base = (u64)&tss;
	gdt[5] = 103 | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
	gdt[6] = base >> 32;
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

struct regs *boot(void)
{
	load_tss();
	protect_kernel();
	serial_init();
	log("belljar specimen: %lu us per tick", boot_options.tick_ns / 1000);
	start_processes();
	apic_init();
	return next_frame();
}

/* The frame to go on with is `frame`: interrupts from there come back to it. */
struct regs *return_to(struct task *task)
{
	tss.rsp0 = (u64)(&task->frame + 1);
	return &task->frame;
}

static void user_exception(struct regs *regs)
{
	u64 address = regs->vector == VECTOR_PAGE_FAULT ? read_cr2() : 0;
	if (regs->vector == VECTOR_PAGE_FAULT && !(regs->error & PAGE_WAS_PRESENT) && demand_map(current, address))
		return;
	current->fault_vector = regs->vector;
	current->fault_error = regs->error;
	current->fault_address = address;
	current->fault_rip = regs->rip;
	log("%s (%lu) killed: vector %lu at 0x%lx, error 0x%lx, cr2 0x%lx", current->name, current->pid, regs->vector,
	    regs->rip, regs->error, address);
	end_task(current, FAULTED);
}

static bool is_served(struct regs *regs)
{
	switch (regs->vector) {
	case VECTOR_TIMER:
		tick();
		break;
	case VECTOR_CARD:
		card_interrupt();
		break;
	case VECTOR_SPURIOUS:
		return true;
	default:
		if (regs->vector < FIRST_INTERRUPT)
			return false;
	}
	apic_eoi();
	return true;
}

struct regs *trap(struct regs *regs)
{
	bool user = regs->cs & 3;
	interrupts[regs->vector]++;
	if (regs->vector == VECTOR_NMI)
		return regs; /* back to where it was, which may be in the kernel */
	if (user && regs->vector == SYSTEM_CALL)
		system_call(current);
	else if (is_served(regs))
		;
	else if (user)
		user_exception(regs);
	else
		panic("vector %lu at 0x%lx, error 0x%lx, cr2 0x%lx", regs->vector, regs->rip, regs->error, read_cr2());
	return next_frame();
}
