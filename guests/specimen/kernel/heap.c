/* The kernel's heap: kmalloc and kfree over one list of free blocks, in the order of their addresses.
 * It never grows. */
#include "kernel.h"

#define HEAP_SIZE 16384
#define HEADER 16

/* Of a free block, and of one in use, whose `next` then means nothing. `size` counts the header. */
struct block {
	u64 size;
	struct block *next;
};

char heap[HEAP_SIZE] __attribute__((aligned(16)));
struct block *heap_free;
u64 heap_used;
static bool is_made;

static void make(void)
{
	is_made = true;
	heap_free = (struct block *)heap;
	heap_free->size = HEAP_SIZE;
}

/* `size` bytes at a multiple of 16; NULL if there is no room. */
void *kmalloc(u64 size)
{
	if (!is_made)
		make();
	if (!size || size > HEAP_SIZE - HEADER)
		return NULL;
	u64 wanted = (size + HEADER + 15) & ~15UL;
	for (struct block **link = &heap_free; *link; link = &(*link)->next) {
		struct block *block = *link;
		if (block->size < wanted)
			continue;
		if (block->size >= wanted + 2 * HEADER) {
			struct block *rest = (struct block *)((char *)block + wanted);
			rest->size = block->size - wanted;
			rest->next = block->next;
			block->size = wanted;
			*link = rest;
		} else {
			*link = block->next;
		}
		heap_used += block->size;
		return (char *)block + HEADER;
	}
	return NULL;
}

static bool is_before(struct block *block, struct block *next)
{
	return next && (char *)block + block->size == (char *)next;
}

void kfree(void *memory)
{
	struct block *block = (struct block *)((char *)memory - HEADER), *before = NULL, *after = heap_free;
	heap_used -= block->size;
	while (after && after < block) {
		before = after;
		after = after->next;
	}
	block->next = after;
	if (is_before(block, after)) {
		block->size += after->size;
		block->next = after->next;
	}
	if (!before) {
		heap_free = block;
	} else if (is_before(before, block)) {
		before->size += block->size;
		before->next = block->next;
	} else {
		before->next = block;
	}
}
