/* Pages and address spaces: who has which page, and what ring 3 may touch. It never decides whom to kill. */
#include "kernel.h"

#define PRESENT 1UL
#define WRITABLE 2UL
#define USER 4UL
#define NO_EXECUTE (1UL << 63)
#define ADDRESS 0x000ffffffffff000UL

#define SLOT(address) (((address) - USER_BASE) / PAGE_SIZE)

#define PAGES 224

char pages[PAGES][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
u64 pages_used;
static u64 next_fresh; /* pages from it on have never been used, and are zero since the loader made them so */
static u64 free_list;  /* pages that were given back: each begins with the address of the next */

u64 page_alloc(void)
{
	u64 page = free_list;
	if (page) {
		free_list = *(u64 *)page;
		zero_page(page);
	} else {
		if (next_fresh == PAGES)
			return 0;
		page = (u64)pages[next_fresh++];
	}
	pages_used++;
	return page;
}

void page_free(u64 page)
{
	*(u64 *)page = free_list;
	free_list = page;
	pages_used--;
}

/* Code can be executed and not written, constants can only be read. Until then the loader's tables are in use. */
void protect_kernel(void)
{
	for (u64 page = (u64)text_start; page < (u64)text_end; page += PAGE_SIZE)
		low_pt[page / PAGE_SIZE] = page | PRESENT;
	for (u64 page = (u64)text_end; page < (u64)rodata_end; page += PAGE_SIZE)
		low_pt[page / PAGE_SIZE] = page | PRESENT | NO_EXECUTE;
	load_cr3((u64)kernel_pml4);
}

static void share(u64 *table)
{
	u64 from = (u64)user_load;
	for (u64 at = (u64)user_start; at < (u64)user_end; at += PAGE_SIZE, from += PAGE_SIZE)
		table[SLOT(at)] = from | PRESENT | USER;
	table[SLOT(USER_BOARD)] = (u64)board | PRESENT | WRITABLE | USER | NO_EXECUTE;
}

/* Page tables for a process: the kernel's own below 1 GiB and in the fourth, its own 2 MiB in the second. */
bool make_space(struct task *task)
{
	u64 page[4];
	for (u64 i = 0; i < 4; i++) {
		page[i] = page_alloc();
		if (!page[i]) {
			while (i)
				page_free(page[--i]);
			return false;
		}
	}
	const u64 down = PRESENT | WRITABLE | USER;
	*(u64 *)page[0] = page[1] | down;
	((u64 *)page[1])[0] = kernel_pdpt[0];
	((u64 *)page[1])[1] = page[2] | down;
	((u64 *)page[1])[3] = kernel_pdpt[3];
	*(u64 *)page[2] = page[3] | down;
	task->cr3 = page[0];
	task->table = (u64 *)page[3];
	share(task->table);
	return true;
}

static void free_range(struct task *task, u64 from, u64 to)
{
	for (u64 at = from; at < to; at += PAGE_SIZE)
		if (task->table[SLOT(at)] & PRESENT)
			page_free(task->table[SLOT(at)] & ADDRESS);
}

/* Gives back all pages of a process that does not run. */
void free_space(struct task *task)
{
	u64 *pml4 = (u64 *)task->cr3, *pdpt = (u64 *)(pml4[0] & ADDRESS);
	u64 pd = pdpt[1] & ADDRESS;
	free_range(task, USER_DATA, (u64)user_bss_end);
	free_range(task, USER_HEAP, task->brk);
	free_range(task, USER_STACK_END, USER_STACK);
	page_free((u64)task->table);
	page_free(pd);
	page_free((u64)pdpt);
	page_free((u64)pml4);
}

static bool may_have(struct task *task, u64 address)
{
	return (address >= USER_DATA && address < (u64)user_bss_end) || (address >= USER_HEAP && address < task->brk) ||
	       (address >= USER_STACK_END && address < USER_STACK);
}

/* Gives the process a page for `address`, if it may have one there. */
bool demand_map(struct task *task, u64 address)
{
	if (!may_have(task, address))
		return false;
	u64 page = page_alloc();
	if (!page)
		return false;
	task->table[SLOT(address)] = page | PRESENT | WRITABLE | USER | NO_EXECUTE;
	task->page_faults++;
	return true;
}

/* The physical address of a byte of the process, which gets a page there if need be; 0 if it has none. */
u64 user_page(struct task *task, u64 address)
{
	if (address < USER_BASE || address >= USER_END)
		return 0;
	u64 *entry = &task->table[SLOT(address & ~(PAGE_SIZE - 1UL))];
	if (!(*entry & PRESENT) && !demand_map(task, address))
		return 0;
	return (*entry & ADDRESS) | (address & (PAGE_SIZE - 1));
}
